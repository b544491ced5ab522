"""What is known of weight sets, as documents and in the lines of a recipe."""

from typing import Any

from braintune.models.weights.places import file_of, how_to_get
from braintune.models.weights.record import Source, WeightRecord


def record_summary(record: WeightRecord) -> dict[str, Any]:
    """A weight set in brief: what it is, whether one may use it, whether it is here."""
    return {
        "name": record.name,
        "tag": record.tag,
        "summary": record.summary,
        "licence": record.licence,
        "non_commercial": record.non_commercial,
        "size": record.source.size if record.source else None,
        "fetched": file_of(record).is_file(),
    }


def record_document(record: WeightRecord) -> dict[str, Any]:
    """All that is known of a weight set, and how a recipe takes it."""
    return {
        "name": record.name,
        **record.model_dump(mode="json"),
        "fetched": file_of(record).is_file(),
        "path": str(file_of(record)),
        "recipe": {
            "prepare": record.prepare.model_dump(mode="json", exclude_none=True, exclude={"words"}),
            "backbone": {"name": record.backbone, "weights": record.tag},
        },
    }


def record_row(record: WeightRecord) -> dict[str, Any]:
    """A weight set as a row of a table."""
    size = record.source.size if record.source else None
    by_hand = record.source is None or record.source.url is None
    return {
        "name": record.name,
        "MB": round(size / 1e6) if size else None,
        "licence": licence_text(record),
        "fetched": "yes" if file_of(record).is_file() else "no, by hand" if by_hand else "no",
        "summary": record.summary,
    }


def record_facts(record: WeightRecord) -> dict[str, Any]:
    """A weight set in words, by what they are about."""
    source = record.source or Source()
    here = file_of(record)
    facts = {
        "name": record.name,
        "summary": record.summary,
        "backbone": record.backbone,
        "needs": record.options,
        "channels": record.channels,
        "licence": licence_text(record),
        "citation": record.citation,
        "has seen": record.cohorts,
        "prepared": record.prepare.words,
        "published at": source.url,
        "sha256": source.sha256,
        "bytes": source.size,
        "fetched": f"yes, in {here}" if here.is_file() else f"no. {how_to_get(record)}",
        "mind": "\n".join(record.quirks),
    }
    return {key: value for key, value in facts.items() if value}


def recipe_lines(record: WeightRecord) -> str:
    """The lines of a recipe that take a weight set, with the preparation that it expects.

    Example:
        >>> from braintune.models.weights.record import ExpectedPreparation
        >>> mine = WeightRecord(
        ...     backbone="sfcn",
        ...     tag="mine",
        ...     licence="MIT",
        ...     citation="–",
        ...     prepare=ExpectedPreparation(spacing=2, intensity="zscore"),
        ... )
        >>> print(recipe_lines(mine))
        prepare: {spacing: 2.0, intensity: zscore}
        backbone: {name: sfcn, weights: mine}
    """
    recipe = record_document(record)["recipe"]
    return "\n".join(f"{section}: {_flow(values)}" for section, values in recipe.items() if values)


def licence_text(record: WeightRecord) -> str:
    """The licence, and that it forbids commercial use where its name does not say so."""
    says_so = "non-commercial" in record.licence.lower()
    return record.licence + (" (non-commercial)" if record.non_commercial and not says_so else "")


def _flow(values: dict[str, Any]) -> str:
    """A section in one line of YAML."""
    return f"{{{', '.join(f'{key}: {value}' for key, value in values.items())}}}"
