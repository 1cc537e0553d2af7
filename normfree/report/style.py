"""The style sheet of a report: light and dark, wide and narrow, nothing from elsewhere."""

STYLE = """
:root { color-scheme: light dark; --bg: #fff; --fg: #1b1f24; --soft: #59636e; --line: #d8dee4;
  --box: #f6f8fa; --good: #1a7f37; --bad: #c21f2b; --link: #0757b8;
  --c0: #0b6bcb; --c1: #c4560a; --c2: #1a7f37; --c3: #8a3ffc; --c4: #b8246f; --c5: #6d5e00;
  --c6: #00798a; --c7: #5b6470; }
@media (prefers-color-scheme: dark) { :root { --bg: #0f1318; --fg: #e6edf3; --soft: #9aa5b1;
  --line: #30363d; --box: #171c23; --good: #56d364; --bad: #ff7b72; --link: #79b8ff;
  --c0: #6cb2ff; --c1: #ff9f4a; --c2: #56d364; --c3: #c4a1ff; --c4: #ff8cc3; --c5: #e3c84b;
  --c6: #4fd1de; --c7: #a6b0bb; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--fg); font: 16px/1.5 system-ui, sans-serif; }
header, main, footer { max-width: 1200px; margin: 0 auto; padding: 0 20px; }
h1 { font-size: 1.6rem; margin: 24px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 40px 0 12px; border-bottom: 1px solid var(--line);
  padding-bottom: 6px; }
p { margin: 8px 0; } .soft, .none, footer { color: var(--soft); } footer { padding: 24px 20px; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 12px 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px;
  margin: 16px 0; padding: 0; list-style: none; }
.facts li { background: var(--box); border: 1px solid var(--line); border-radius: 8px;
  padding: 10px 14px; overflow-wrap: anywhere; }
.facts b { display: block; font-size: 1.25rem; } .facts span { color: var(--soft);
  font-size: .85rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr));
  gap: 16px; }
figure { margin: 0; background: var(--box); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px; min-width: 0; }
figcaption { font-weight: 600; margin-bottom: 6px; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; font-size: 13px; }
svg text { fill: var(--soft); } svg .name { fill: var(--fg); } svg .cell { font-size: 12px; }
.end { text-anchor: end; } .mid { text-anchor: middle; }
.grid { stroke: var(--line); } .axis { stroke: var(--soft); }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
.dot { fill: var(--c); } .dashed.line { stroke-dasharray: 6 5; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); }
.c4 { --c: var(--c4); } .c5 { --c: var(--c5); } .c6 { --c: var(--c6); } .c7 { --c: var(--c7); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 6px 0 0; padding: 0;
  list-style: none; font-size: .85rem; }
.key { display: inline-block; width: 18px; border-top: 3px solid var(--c); margin-right: 6px;
  vertical-align: middle; } .key.dashed { border-top-style: dashed; }
.pixels, .scale img { image-rendering: pixelated; }
.scale { font-size: .85rem; } .scale img { width: 140px; height: 12px; vertical-align: middle; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: 4px 12px 4px 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td { overflow-wrap: anywhere; max-width: 60ch; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(118px, 1fr)); gap: 12px;
  margin: 0; padding: 0; list-style: none; font-size: .82rem; line-height: 1.35; }
.images li { overflow-wrap: anywhere; }
.images img { width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--box);
  border: 1px solid var(--line); border-radius: 6px; }
.yes { color: var(--good); } .no { color: var(--bad); }
pre { background: var(--box); border: 1px solid var(--line); border-radius: 8px; padding: 12px;
  overflow-x: auto; font-size: .82rem; } summary { cursor: pointer; margin: 8px 0; }
.note { border-left: 4px solid var(--c1); padding: 4px 12px; background: var(--box); }
@media (max-width: 600px) { header, main, footer { padding-left: 14px; padding-right: 14px; }
  svg { font-size: 18px; } svg .cell { font-size: 15px; } figure { padding: 8px; }
  .facts { grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); } }
@media print { nav { display: none; } }
"""
