"""What the documentation says of accuracy and speed is what was measured."""

import tables
from braintune.files import read_json


def test_the_pages_show_the_measured_numbers() -> None:
    assert tables.PAGE.read_text(encoding="utf-8") == tables.page()
    text = tables.README.read_text(encoding="utf-8")
    assert tables.readme(text) == text


def test_results_say_where_they_were_measured_and_name_nobody() -> None:
    for path in tables.RESULTS.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        environment = read_json(path)["environment"]
        assert environment["processor"]
        assert environment["packages"]["torch"]
        assert "command" not in environment
        assert "sub-" not in text
