"""The commands that train: fit, resume, compare and benefit."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from headstart.cli.app import (
    AsCsv,
    AsJson,
    Source,
    app,
    begin,
    command_line,
    one_format,
    process_start,
    reporting_errors,
)
from headstart.cli.options import given, takes_options
from headstart.cli.output import print_ledger, print_model, print_run, print_table, say
from headstart.errors import RecipeError
from headstart.progress import for_stream
from headstart.recipes.keywords import parse_options
from headstart.recipes.options import BenefitOptions, CompareOptions, FitOptions, ResumeOptions

Verbose = Annotated[bool, typer.Option("--verbose", help="Also print what each method did.")]


@app.command()
@takes_options(FitOptions)
def fit(
    context: typer.Context,
    source: Source,
    config: Annotated[
        Path | None,
        typer.Option(
            help="File with options, such as the request.toml of a run; or a run folder. What is "
            "given here as well replaces them."
        ),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    **values: Any,
) -> None:
    """Search, train and test the best classifier that the budget allows."""
    with reporting_errors(context):
        options = parse_options(FitOptions, _configured(config, given(values)))
        begin(source, options.budget_s)
        from headstart.api.fit import fit as run_fit

        run = run_fit(
            source,
            options,
            progress=for_stream(sys.stderr),
            command=command_line(),
            started=process_start(),
        )
        print_run(run, as_json, verbose)


@app.command()
@takes_options(ResumeOptions)
def resume(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Run folder of an interrupted search.")],
    verbose: Verbose = False,
    **values: Any,
) -> None:
    """Resume an interrupted search."""
    with reporting_errors(context):
        options = parse_options(ResumeOptions, given(values))
        begin(run)
        from headstart.api.resume import resume as resume_run

        resumed = resume_run(run, options, progress=for_stream(sys.stderr), started=process_start())
        print_run(resumed, verbose=verbose)


@app.command()
@takes_options(CompareOptions)
def compare(
    context: typer.Context,
    source: Annotated[
        str | None, typer.Argument(help="Images, as for `fit`; by default those of --run.")
    ] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    **values: Any,
) -> None:
    """Measure the effect of each method: add one at a time, and leave one out."""
    with reporting_errors(context):
        one_format(as_json, as_csv)
        options = parse_options(CompareOptions, given(values))
        if what := source or options.run:  # else it is refused
            begin(what, options.budget_s)
        from headstart.api.compare import compare as run_compare

        ledger = run_compare(
            source, options, progress=for_stream(sys.stderr), started=process_start()
        )
        print_ledger(ledger, as_json, as_csv)
        if options.run is not None:
            say(f"report: {options.run / 'report.html'}", error=True)


@app.command()
@takes_options(BenefitOptions)
def benefit(context: typer.Context, source: Source, as_json: AsJson = False, **values: Any) -> None:
    """Measure the benefit of pretrained weights over training from scratch, and of more labels."""
    with reporting_errors(context):
        shares = _shares(values.pop("fractions"))
        options = parse_options(BenefitOptions, given({**values, "fractions": shares}))
        begin(source, options.budget_s)
        from headstart.api.benefit import benefit as run_benefit
        from headstart.certificate.verdicts import answers

        folder, certificate = run_benefit(
            source,
            options,
            progress=for_stream(sys.stderr),
            command=command_line(),
            started=process_start(),
        )
        if as_json:
            print_model(certificate)
            return
        print_table(("question", "answer", "why"), answers(certificate))
        for note in certificate.notes:
            say(f"note: {note}")
        say(f"certificate: {folder / 'certificate.html'}")


def _configured(config: Path | None, values: dict[str, Any]) -> dict[str, Any]:
    """Returns options of the command line with those of a file, and says what the file brought."""
    if config is None:
        return values
    from headstart.recipes.config import from_config, read_config, with_config

    found = read_config(config)
    for line in from_config(found, values):
        say(f"{config}: {line}", error=True)
    return with_config(found, values)


def _shares(percentages: str | None) -> tuple[float, ...] | None:
    """Reads percentages such as `10,25,100` as shares.

    Raises:
        RecipeError: If the text is not a list of numbers.
    """
    if percentages is None:
        return None
    try:
        return tuple(float(part.strip().removesuffix("%")) / 100 for part in percentages.split(","))
    except ValueError:
        raise RecipeError(
            f"--fractions {percentages} is not a list of percentages. Write it like 10,25,100."
        ) from None
