"""svg.py SVG DOT: is the drawing sound, and does it show what Graphviz would be told?"""
import collections
import itertools
import re
import sys
import xml.etree.ElementTree as ET

root = ET.parse(sys.argv[1]).getroot()
dot = open(sys.argv[2]).read()
fills = collections.Counter(re.findall(r'fillcolor="(#\w+)"', dot))
width, boxes = float(root.get("width")), collections.Counter()
for entry in root:
    if not entry.tag.endswith("}g"):
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
