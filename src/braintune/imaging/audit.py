"""The audit of a cohort: everything that makes it unfit to learn from, in one table."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from braintune.cohort.audit import TableAudit, audit_table
from braintune.cohort.cohort import Cohort
from braintune.imaging.inspect import Problem, ScanReport, inspect_scan
from braintune.parallel import check_workers, map_parallel

# A voxel size that so few scans have, against one that most have, is worth a look.
_RARE_SHARE = 0.1


@dataclass(frozen=True)
class CohortAudit:
    """What `braintune check` says.

    Attributes:
        problems: What must be mended, or accepted, before the cohort is fit to learn from.
        cautions: What to know of.
        table: Demographics and associations.
        spacings: How many scans have each voxel size.
    """

    problems: tuple[Problem, ...]
    cautions: tuple[Problem, ...]
    table: TableAudit
    spacings: dict[str, int]


def audit_cohort(
    cohort: Cohort,
    target: str | None = None,
    *,
    accept: tuple[str, ...] = (),
    workers: int | None = None,
) -> CohortAudit:
    """Audit tables and scans; never stops at the first problem.

    Args:
        cohort: What to audit.
        target: The column to predict, for its balance and its association with site and sex.
        accept: Beginnings of problems that the user knows of, which become cautions.
        workers: Processes, by default one a core.
    """
    check_workers(workers)
    table = audit_table(cohort, target)
    reports: dict[str, ScanReport] = {}
    owners = cohort.scans_of_files
    for path, report in map_parallel("Checking", _inspect, sorted(owners), workers):
        reports |= dict.fromkeys(owners[path], report)
    problems = [problem for _, report in sorted(reports.items()) for problem in report.problems]
    problems += [Problem(f.what, f.where, f.remedy) for f in table.problems]
    problems += _equal(cohort, reports)
    accepted = [p for p in problems if p.what.startswith(accept)] if accept else []
    cautions = [Problem(f.what, f.where, f.remedy) for f in table.cautions]
    spacings = Counter(" × ".join(f"{s:g}" for s in r.spacing) for r in reports.values())
    spacings.pop("", None)
    return CohortAudit(
        problems=tuple(problem for problem in problems if problem not in accepted),
        cautions=(*accepted, *cautions, *_rare_spacings(reports)),
        table=table,
        spacings=dict(spacings.most_common()),
    )


def _inspect(path: str) -> ScanReport:
    return inspect_scan(Path(path))


def _equal(cohort: Cohort, reports: dict[str, ScanReport]) -> list[Problem]:
    groups: dict[str, list[str]] = defaultdict(list)
    for scan_id in cohort.scan_ids:
        if reports[scan_id].voxels:
            groups[reports[scan_id].voxels].append(scan_id)
    return [
        Problem("equal to the voxel", ", ".join(ids), "keep one; find out whose scan it is")
        for ids in groups.values()
        if len(ids) > 1
    ]


def _rare_spacings(reports: dict[str, ScanReport]) -> list[Problem]:
    sizes = Counter(report.spacing for report in reports.values() if report.spacing)
    if not sizes:
        return []
    rare = {size for size, count in sizes.items() if count < _RARE_SHARE * sizes.total()}
    return [
        Problem(
            "voxel size unlike the rest: " + " × ".join(f"{s:g}" for s in report.spacing),
            scan_id,
            "make sure it is the same kind of scan; preparation resamples it",
        )
        for scan_id, report in sorted(reports.items())
        if report.spacing in rare
    ]
