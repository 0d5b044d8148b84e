"""The front page of the validation report: every rule with what came of it, in one file that opens offline.

Great Expectations' own front page and status icons come from the net; its pages per frame are linked for the details.
"""

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem; border-bottom: 1px solid #ddd; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.critical td:first-child { color: #b00020; font-weight: 600; }
.warning td:first-child { color: #9a6700; font-weight: 600; }
.passed td:first-child { color: #1a7f37; }
.not-applicable { color: #777; }
small { color: #555; overflow-wrap: anywhere; }
"""

BOUND_NAMES = {"min_value": "from", "max_value": "to", "mostly": "in a share of"}

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Validation of the data</title><style>{{ style }}</style></head>
<body>
<h1>Validation of the data</h1>
<p>{% for name, value in facts.items() %}{{ name }}: <b>{{ value }}</b>{{ "" if loop.last else " &middot; "|safe }}{% endfor %}</p>
<table>
<tr><th>outcome</th><th>rule</th><th>looked at</th><th>break it</th><th>bounds</th><th>range seen</th></tr>
{% for rule in rules -%}
<tr class="{{ rule.outcome|replace(" ", "-") }}" id="{{ rule.name }}">
<td>{{ rule.outcome }}</td>
<td><b>{{ rule.name }}</b>: {{ rule.statement }}.
{%- if rule.offending_rows %}<br><small>{% for row in rule.offending_rows %}
{%- for key, value in row.items() %}{{ key }} {{ value }}{{ "" if loop.last else ", " }}{% endfor %}{{ "" if loop.last else "; " }}
{%- endfor %}{% if rule.num_offending > rule.offending_rows|length %}; &hellip;{% endif %}</small>{% endif %}</td>
<td class="number">{{ rule.num_checked }} <a href="{{ pages[rule.frame] }}">{{ rule.frame }}</a></td>
<td class="number">{{ rule.num_offending }}{% if rule.frame == "slices" and rule.num_offending %}<br>in {{ rule.num_offending_patients }} patient(s){% endif %}</td>
<td class="number">{% for key, value in rule.bounds.items() %}{{ names[key] }} {{ "%.6g"|format(value) }}<br>{% endfor %}</td>
<td class="number">{% if rule.observed_range %}{{ "%.6g"|format(rule.observed_range[0]) }} to {{ "%.6g"|format(rule.observed_range[1]) }}{% endif %}</td>
</tr>
{% endfor -%}
</table>
<p>Critical rules stop the pipeline, warnings are reported. Judged with Great Expectations.</p>
</body>
</html>
"""  # noqa: E501 - markup


def render_page(rules: Sequence[dict[str, Any]], facts: dict[str, Any], pages: dict[str, str]) -> str:
    """Return the page as HTML.

    Args:
        rules: The entries of result.json.
        facts: What to show above the table.
        pages: Frame -> link to its detailed page.
    """
    shown = [{**rule, "outcome": _name_outcome(rule)} for rule in rules]
    template = Environment(autoescape=True).from_string(TEMPLATE)
    return template.render(style=STYLE, rules=shown, facts=facts, pages=pages, names=BOUND_NAMES)


def _name_outcome(rule: dict[str, Any]) -> str:
    if rule["status"] == "failed":
        return str(rule["severity"])
    return str(rule["status"]).replace("_", " ")
