"""Style of the HTML page, as CSS. It is Python because Flower's bundle takes no .css file."""

STYLE = """\
/* One column on a telephone, two columns of charts on a screen; what is wider scrolls inside its own box. */
:root { color-scheme: light dark; --ink: #1d2430; --faint: #5c6675; --line: #dde2e9; --box: #f5f7fa; --page: #fff;
  --link: #1f63b0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ef; --faint: #9aa5b4; --line: #333c48; --box: #1d232b; --page: #14181d; --link: #7db4ee; }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 3rem; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 0 20px; max-width: 1180px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word; }
header { padding: 2rem 0 1rem; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 .6rem; font-size: 1.25rem; }
h3 { margin: 1.4rem 0 .3rem; font-size: 1rem; }
header p, .caption, footer { color: var(--faint); }
header p { margin: .4rem 0 1.2rem; }
p { max-width: 75ch; }
a { color: var(--link); }
nav { position: sticky; top: 0; z-index: 1; display: flex; gap: 1.1rem; padding: .6rem 0; overflow-x: auto;
  background: var(--page); border-bottom: 1px solid var(--line); white-space: nowrap; font-size: .9rem; }
nav a { text-decoration: none; }
section { padding: 1.6rem 0; border-bottom: 1px solid var(--line); }
footer { padding: 1.2rem 0 2rem; font-size: .85rem; }

dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px; margin: 0 0 1rem; }
dl > div { padding: .55rem .8rem; background: var(--box); border-radius: 6px; min-width: 0; }
dt { color: var(--faint); font-size: .8rem; }
dd { margin: 0; overflow-wrap: anywhere; }
header dd { font-size: 1.1rem; font-weight: 600; }

.scroll, pre { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; margin: .6rem 0 1rem; font-size: .92rem; font-variant-numeric: tabular-nums; }
.caption { margin: .3rem 0; font-size: .88rem; }
th, td { padding: .32rem 1.1rem .32rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; white-space: nowrap; }
th { font-weight: 500; }
thead th { color: var(--faint); }
thead th:first-child { white-space: normal; }
tbody th { white-space: normal; min-width: 7rem; }
.numbers td, .numbers thead th + th { text-align: right; }
pre { margin: .5rem 0; padding: .8rem; background: var(--box); border-radius: 6px;
  font: .82rem/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--link); }
.missing { color: var(--faint); }
.missing p { margin: 0; }
.missing pre { white-space: pre-wrap; overflow-wrap: anywhere; }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 10px 28px; }
figure { margin: .4rem 0; min-width: 0; max-width: 640px; }
section > figure { max-width: 900px; }
figcaption { font-size: .9rem; font-weight: 500; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit !important; }
img { display: block; min-width: 480px; max-width: 100%; height: auto; margin-top: .4rem; border-radius: 6px;
  background: #fff; }
"""
