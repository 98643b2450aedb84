"""svg.py SVG DOT: is the drawing sound, and does it show what Graphviz would be told?"""
import collections
import itertools
import re
import sys
import xml.etree.ElementTree as ET

root = ET.parse(sys.argv[1]).getroot()
dot = open(sys.argv[2]).read()
fills = collections.Counter(re.findall(r'shape=box.*fillcolor="(#\w+)"', dot))
legend = dict(re.findall(r'label="(.*)", shape=note.*fillcolor="(#\w+)"', dot))
width, boxes = float(root.get("width")), collections.Counter()
for entry in root:
    if not entry.tag.endswith("}g"):
        continue
    if entry.get("class") == "legend":
        rects, texts = ([e for e in entry if e.tag.endswith(kind)] for kind in ("rect", "text"))
        assert {t.text: r.get("fill") for t, r in zip(texts, rects)} == legend and len(legend) == 4, legend
        assert len(texts) == 7  # three colours of edges
        continue
    rects = []
    for e in entry:
        if e.tag.endswith("rect"):
            rects.append([float(e.get(k)) for k in ("x", "y", "width", "height")])
            boxes[e.get("fill")] += 1
        if e.tag.endswith("path"):  # from the lower edge of one box down to the upper of another
            x1, y1, *_, x2, y2 = map(float, re.findall(r"-?\d+", e.get("d")))
            assert y1 < y2, e.get("d")
    assert all(0 <= x and x + w <= width for x, _, w, _ in rects)
    for (x, y, w, h), (a, b, v, i) in itertools.combinations(rects, 2):
        assert x + w <= a or a + v <= x or y + h <= b or b + i <= y, "boxes overlap"
assert boxes == fills and len(fills) > 2, (boxes, fills)
assert set(fills) <= set(legend.values()), fills
assert re.search(r'\\n\w+\.mp:\d+', dot), "no place"
