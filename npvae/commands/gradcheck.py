"""Check every gradient against central differences in float64, and print the table."""

from __future__ import annotations

from collections.abc import Sequence

from npvae.commands import cli


def main(arguments: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, "Exit code 1 if the largest relative error of any is above 1e-7.")
    parser.add_common()
    options = parser.parse_args(arguments)

    from npvae.gradcheck import check_everything, table

    checks = list(check_everything(options.seed))
    report = table(checks)
    print(report.splitlines()[-1] if options.quiet else report)
    return 0 if all(check.passed for check in checks) else 1
