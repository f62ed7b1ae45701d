"Checks, without Quarto, that the docs hold together: links, pictures, the sidebar, and names of ours in backticks."
import ast, importlib, json, re, sys
from pathlib import Path

import yaml

root = Path(__file__).resolve().parents[1]
nbs = root/'nbs'
problems = []

def markdown(nb): return [''.join(c['source']) for c in json.loads(nb.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'markdown']
def prose(text): return re.sub(r'```.*?```', '', text, flags=re.S)
def slug(heading): return re.sub(r'[^\w-]', '', re.sub(r'\s+', '-', re.sub(r'[`*_]', '', heading).strip().lower()))
def headings(nb): return {slug(h) for t in markdown(nb) for h in re.findall(r'^#+ (.+)$', prose(t), re.M)}

def check_target(where, base, link):
    "A relative link has to lead to a file, and its anchor to a heading there"
    path, _, anchor = link.partition('#')
    target = (base/path).resolve() if path else where
    if not target.exists(): problems.append(f'{where.relative_to(root)}: nothing at {link}')
    elif anchor and target.suffix == '.ipynb' and anchor not in headings(target) and anchor.lower() not in symbols: problems.append(f'{where.relative_to(root)}: {target.name} has no heading #{anchor}')

def resolves(dotted):
    "Is `neuroscope.a.b` a module, or a name in one?"
    parts = dotted.split('.')
    for n in range(len(parts), 0, -1):
        try: obj = importlib.import_module('.'.join(parts[:n]))
        except ImportError: continue
        for p in parts[n:]:
            if not hasattr(obj, p): return False
            obj = getattr(obj, p)
        return True
    return False

index = ast.literal_eval(re.search(r'd = (\{.*\})', (root/'neuroscope/_modidx.py').read_text(encoding='utf-8'), re.S)[1])
symbols = {s.split('.')[-1].lower() for m in index['syms'].values() for s in m}
words = lambda text: set(re.findall(r'\w+', text))
ours = words(' '.join(p.read_text(encoding='utf-8') for p in (root/'neuroscope').rglob('*.py')))
elsewhere = {'conv3d', 'CastToTensor', 'toggle_optimizer', 'progress_bar_refresh_rate', 'MLFLOW_TRACKING_URI', 'DistributedDataParallel', 'gloo'}                              # names of torch, fastai and Lightning that the prose speaks of and no code uses
notebooks = [p for p in sorted(nbs.rglob('*.ipynb')) if not any(o.startswith(('.', '_')) for o in p.relative_to(nbs).parts)]
n_links = n_names = 0

def code(nb): return ' '.join(''.join(c['source']) for c in json.loads(nb.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code')

for where in [*notebooks, root/'README.md']:
    texts = markdown(where) if where.suffix == '.ipynb' else [where.read_text(encoding='utf-8')]
    known = ours | elsewhere | (words(code(where)) if where.suffix == '.ipynb' else set())
    for text in map(prose, texts):
        for name in re.findall(r'`([A-Za-z]\w*(?:\.\w+)*)(?:\(\))?`', text):
            n_names += 1
            if not words(name) <= known and not re.search(r'\.(py|ini|json|csv|html|ipynb|toml|yml|txt|md|gz|nii|safetensors)$', name):
                problems.append(f'{where.relative_to(root)}: `{name}` is a name that neither the package nor this page has')
        for link in re.findall(r'\]\(([^)\s]+)\)', text):
            if re.match(r'[a-z]+:', link): continue
            n_links += 1
            check_target(where, where.parent, link)
        for name in re.findall(r'`(neuroscope(?:\.\w+)+)`', text):
            n_names += 1
            if not resolves(name): problems.append(f'{where.relative_to(root)}: `{name}` is not there')

def pages(node):
    if isinstance(node, str): yield node
    for o in node if isinstance(node, list) else [v for k, v in node.items() if k in ('contents', 'href')] if isinstance(node, dict) else []: yield from pages(o)

listed = set(pages(yaml.safe_load((root/'_quarto.yml').read_text(encoding='utf-8'))['website']['sidebar']))
have = {str(p.relative_to(nbs)) for p in notebooks}
problems += [f'_quarto.yml: the sidebar lists {p}, which is not there' for p in sorted(listed - have)]
problems += [f'_quarto.yml: the sidebar does not list {p}' for p in sorted(have - listed)]

print(f'{n_links} links, {n_names} names, {len(listed)} pages')
if problems: sys.exit('\n'.join(problems))
