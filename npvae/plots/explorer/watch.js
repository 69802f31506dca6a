"use strict";
// The first script: whatever goes wrong in the others is seen, not only in the console.

for (const kind of ["error", "unhandledrejection"]) {
  addEventListener(kind, (event) => {
    const verdict = document.getElementById("verdict"), report = document.getElementById("report");
    verdict.textContent = "this page is broken";
    verdict.className = report.className = "failed";
    report.textContent = `${event.message ?? event.reason}`;
  });
}
