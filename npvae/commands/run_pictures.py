"""What a run shows of itself, epoch by epoch: pictures, its page and loss curves.

They are drawn between two epochs. The page has curves of its own; loss.png, which takes longer to
draw than all the rest, follows every LOOKS seconds. The samples of all epochs are joined to one
animation after the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

from npvae.commands.explorer import write_page_of_run
from npvae.commands.job import RunJob
from npvae.commands.messages import Bounds, next_commands
from npvae.core.random_streams import Stream, generator
from npvae.evaluation import active_units, kl_per_latent
from npvae.plots.animation import chosen_epochs, gif, of_samples
from npvae.plots.image_grid import reconstruction_grid
from npvae.plots.loss_curves import loss_curve
from npvae.plots.report import LINKED, Report, report_page
from npvae.plots.request import Request, model_name
from npvae.plots.samples import prior

KL_IMAGES = 500  # test images over which the page's KL per latent is averaged
LOOKS = 5.0  # seconds between two looks at loss.png while training goes on

History = Sequence[Mapping[str, float]]


@dataclass
class RunPictures:
    """Call it after each epoch: it writes the pictures of that epoch, and the run's page anew."""

    job: RunJob
    bounds: Bounds
    facts: Sequence[tuple[str, str]]  # what is trained, for the page
    in_curve: int = 0  # epochs that loss.png shows
    drawn: float = field(default_factory=monotonic)  # when it was drawn, or the run began

    def __call__(self, history: History, seconds: float) -> None:
        """The pictures of the last epoch in history, if it is due for them, and all so far."""
        run, vae, settings, test_set = self.job.run, self.job.vae, self.job.settings, self.job.test
        epoch, name = len(history), self.name()
        if settings.pictures_every and epoch % settings.pictures_every == 0:
            save_pictures(self.job, epoch)
        if epoch == settings.epochs or monotonic() - self.drawn >= LOOKS:
            self.draw_curve(history)
        if epoch == settings.epochs:
            pictures = run.epochs_with_pictures(epoch)
            frames = of_samples(run.folder / "images", chosen_epochs(pictures), name)
            if len(frames) > 1:
                run.picture("samples.gif", gif(frames))
            if settings.pictures_every:
                write_page_of_run(run, vae, test_set, epoch)
        self.write_report(history, seconds)

    def write_report(
        self, history: History, seconds: float, diverged: str = "", again: str = ""
    ) -> None:
        """The run's page; of one that has diverged with what happened, and a command to go on."""
        run, vae, settings, test_set = self.job.run, self.job.vae, self.job.settings, self.job.test
        epoch = len(history)
        some, labels = test_set.images[:KL_IMAGES], vae.classes(test_set.labels[:KL_IMAGES])
        report = Report(
            name=self.name(),
            epochs=settings.epochs,
            history=history,
            seconds=seconds,
            floor=self.bounds.floor,
            baseline=self.bounds.baseline,
            beta=settings.beta,
            kl=[] if diverged else kl_per_latent(vae, some, labels=labels).tolist(),
            active=[] if diverged else active_units(vae, some, labels=labels).tolist(),
            kl_images=len(some),
            pictures=run.epochs_with_pictures(epoch),
            files=[name for name in LINKED if (run.folder / name).exists()],
            facts=self.facts,
            next=[("start again:", again)] if again else next_commands(self.job),
            resume=self.job.voice.command("train", "--resume", run.folder),
            diverged=diverged,
        )
        run.picture("report.html", report_page(report).encode())

    def draw_curve(self, history: History) -> None:
        """Let loss.png show the whole history."""
        if self.job.settings.pictures_every and len(history) != self.in_curve:
            self.job.run.picture("loss.png", loss_curve(history, self.name(), *self.bounds))
            self.in_curve, self.drawn = len(history), monotonic()

    def name(self) -> str:
        return model_name(self.job.test.title, self.job.vae.latent_dim)


def save_pictures(job: RunJob, epoch: int) -> None:
    """100 draws from the prior, the same z in every epoch; 50 test images and their x_hat at mu."""
    run, vae, test_set = job.run, job.vae, job.test
    name = model_name(test_set.title, vae.latent_dim, epoch)
    samples = prior(Request(vae, name, 100, 3, generator(job.settings.seed, Stream.SAMPLES)))
    run.picture(f"images/sampled_epoch{epoch}.png", samples)
    originals = test_set.images[:50]
    c = vae.classes(test_set.labels[:50])
    mu, _ = vae.encode(originals.reshape(len(originals), -1) / 255, c)
    title = f"{name}: test images and their reconstructions"
    pairs = reconstruction_grid(originals, vae.decode(mu, c), 3, title)
    run.picture(f"images/rec_epoch{epoch}.png", pairs)
