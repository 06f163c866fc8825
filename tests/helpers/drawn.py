"""What a chart draws, read out of its Vega-Lite specification."""


def drawn(chart, mark):
    """The data of all of a chart's marks of one type, panel by panel and layer by layer."""
    spec = chart if isinstance(chart, dict) else chart.to_dict()
    return list(_values(spec, mark, None))


def _values(spec, mark, above):
    data = spec.get("data", above)
    for part in (*spec.get("concat", ()), *spec.get("hconcat", ()), *spec.get("layer", ())):
        yield from _values(part, mark, data)
    if "mark" in spec and (spec["mark"] if isinstance(spec["mark"], str) else spec["mark"]["type"]) == mark:
        yield from data["values"]


def places(chart, series=None, mark="point"):
    """Cost and score of each marker of a series, or of all, in order."""
    return sorted((one["x"], round(one["y"], 6)) for one in drawn(chart, mark) if series in (None, one.get("series")))
