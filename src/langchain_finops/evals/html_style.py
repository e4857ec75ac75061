"""How the report looks: light and dark as the reader's system is, narrow screens, paper. Nothing is loaded."""

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1a1d21; --soft: #5b636d; --line: #d9dde2; --band: #f5f7f9;
  --mark: #0b62c4; --other: #8a929c; --good: #1a7f37; --bad: #c0352b; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --ink: #e8eaed; --soft: #a3abb5; --line: #363c43;
  --band: #1d2126; --mark: #6cb0ff; --other: #8d96a1; --good: #57c26f; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 3rem; max-width: 76rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
p { margin: .25rem 0 .75rem; max-width: 50rem; }
.soft, figcaption { color: var(--soft); }
.about { margin: .5rem 0 0; display: flex; flex-wrap: wrap; gap: .15rem 1.5rem; color: var(--soft); }
.about span { overflow-wrap: anywhere; }
.about b { font-weight: 600; color: var(--ink); }
.wide { overflow-x: auto; margin: 0 0 1rem; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .4rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
tr:last-child > * { border-bottom: 0; }
thead th { background: var(--band); color: var(--soft); font-weight: 600; vertical-align: bottom;
  white-space: normal; line-height: 1.3; }
td.name, th.name:first-child { position: sticky; left: 0; background: var(--page); }
th.name:first-child { background: var(--band); }
th.name, td.name { text-align: left; }
td.name { font-weight: 600; white-space: normal; overflow-wrap: anywhere; min-width: 12rem; max-width: 18rem; }
td.node { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 6rem; max-width: 16rem; }
td.plot { width: 45%; min-width: 8rem; padding-top: .2rem; padding-bottom: .2rem; }
td.plot svg { display: block; width: 100%; height: 1.3rem; }
td.better { color: var(--good); } td.worse { color: var(--bad); }
.ends { display: flex; justify-content: space-between; gap: .75rem; font-weight: 400; white-space: nowrap; }
figure { margin: 0 0 1rem; display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: flex-start; }
figure svg { display: block; flex: 1 1 22rem; max-width: 46rem; min-width: 0; height: auto; }
figure ol { flex: 1 1 14rem; max-height: none; } figcaption { flex: 1 0 100%; }
svg text { fill: var(--soft); font: 11.5px system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; }
svg .grid { stroke: var(--line); } svg .reach { stroke: var(--other); } svg .front { stroke: var(--mark); fill: none; }
svg .dot { fill: var(--other); } svg .dot.on, svg .bar { fill: var(--mark); }
svg text.number { fill: var(--page); font-weight: 700; font-size: 10px; text-anchor: middle; }
svg .tick, svg .middle { vector-effect: non-scaling-stroke; }
svg .tick { stroke: var(--other); stroke-width: 1.5; stroke-opacity: .55; } svg .box { fill: var(--mark); opacity: .3; }
svg .middle { stroke: var(--mark); stroke-width: 3; }
ol.key { margin: .5rem 0; padding-left: 1.75rem; }
ol.key li { overflow-wrap: anywhere; }
ul.checks { padding-left: 1.2rem; max-width: 60rem; } ul.checks li { margin: .3rem 0; overflow-wrap: anywhere; }
@media (max-width: 600px) { body { padding: 1.25rem .9rem 2rem; } h1 { font-size: 1.3rem; }
  th, td { padding: .35rem .5rem; } svg text { font-size: 13px; } td.name { min-width: 7rem; max-width: 9rem; } }
@page { size: A4 landscape; margin: 12mm; }
@media print { :root { color-scheme: light; --page: #fff; --ink: #000; --soft: #444; --line: #bbb; --band: #f0f0f0;
    --mark: #0b50a0; --other: #777; --good: #14692c; --bad: #a5261d; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  body { max-width: none; padding: 0; font-size: 10pt; } .wide { overflow: visible; border: 0; }
  table { font-size: 7.5pt; } th, td { padding: .25rem .35rem; } thead { display: table-header-group; }
  td.name, th.name:first-child { position: static; }
  tr, figure, li { break-inside: avoid; } h2 { break-after: avoid; } figure svg { max-width: 150mm; } }
"""
