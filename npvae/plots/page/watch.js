// The first script: whatever goes wrong in the others is seen, not only in the console.

for (const kind of ["error", "unhandledrejection"]) {
  addEventListener(kind, (event) => {
    const verdict = document.getElementById("verdict");
    verdict.textContent = `this page is broken: ${event.message ?? event.reason}`;
    verdict.className = "failed";
  });
}
