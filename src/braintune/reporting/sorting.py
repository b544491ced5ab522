"""Tables that readers sort: the script of pages, and the hash that lets it run and no other."""

import base64
import hashlib

SORTING = """
document.querySelectorAll("table.sortable th").forEach(function (head) {
  head.addEventListener("click", function () {
    var body = head.closest("table").tBodies[0], place = head.cellIndex;
    var falling = head.getAttribute("aria-sort") === "ascending";
    head.parentNode.querySelectorAll("th").forEach(function (other) {
      other.removeAttribute("aria-sort");
    });
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    var key = function (row) { return row.cells[place].dataset.value; };
    Array.from(body.rows).sort(function (a, b) {
      var x = key(a), y = key(b), order = x - y;
      if (isNaN(order)) { order = x.localeCompare(y); }
      return falling ? -order : order;
    }).forEach(function (row) { body.appendChild(row); });
  });
});
"""


def sorting_script() -> dict[str, str]:
    """The script and its hash, as templates expect them; the content security policy has the hash.

    Example:
        >>> sorted(sorting_script())
        ['script', 'script_hash']
    """
    found = hashlib.sha256(SORTING.encode()).digest()
    return {"script": SORTING, "script_hash": base64.b64encode(found).decode()}
