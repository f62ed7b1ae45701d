"""Checks of style, in seconds: lines, statements, cells and modules of all notebooks.

`python .ci/style.py` prints how often each rule is broken and fails where that is more often
than `.ci/style.json` allows; with names of notebooks it lists every place in these.
The numbers there may only go down: `--write` lowers them to what was counted.
"""
import ast
import json
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS = Path(__file__).with_name('style.json')
COLUMNS = 100
CELL_LINES = 40
MODULE_LINES = 400
EXPORTS_IN_A_ROW = 3
PASSED_ON = 'can be had from here'     # a comment of imports that other modules ask for here
RULES = dict(
    columns=f'a line of more than {COLUMNS} columns',
    statements='two statements on a line (;)',
    tuples='a tuple assignment that neither unpacks nor swaps',
    lambdas='a lambda with a name',
    comprehensions='a comprehension within a comprehension',
    cells=f'an exported cell of more than {CELL_LINES} lines',
    rows=f'more than {EXPORTS_IN_A_ROW} exports in a row without a use',
    modules=f'a module of more than {MODULE_LINES} lines',
    imports='an exported import that its module does not use')
COMPREHENSIONS = ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp

def cells_of(path):
    "Kind and source of each cell"
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [(c['cell_type'], ''.join(c['source'])) for c in cells]

def exported(source):
    return bool(re.match(r'#\| *exporti?\b', source))

def imports_only(source):
    try: body = ast.parse(source).body
    except SyntaxError: return False
    return all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in body)

def swaps(node):
    "Is a value used that an earlier target of the same assignment would have changed?"
    targets = [ast.dump(t).replace('Store', 'Load') for t in node.targets[0].elts]
    values = [ast.dump(v) for v in node.value.elts]
    return any(t in v for i, v in enumerate(values) for t in targets[:i])

def broken_rules(source):
    "Rule and line number of what the syntax tree of a cell shows"
    try: tree = ast.parse(source)
    except SyntaxError: return []          # a shell command or a magic
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            value, target = node.value, node.targets[0]
            if isinstance(value, ast.Lambda) and isinstance(target, ast.Name):
                found.append(('lambdas', node.lineno))
            both = isinstance(value, ast.Tuple) and isinstance(target, ast.Tuple)
            if both and len(value.elts) == len(target.elts) and not swaps(node):
                found.append(('tuples', node.lineno))
        if isinstance(node, COMPREHENSIONS):
            inner = [n for n in ast.walk(node) if n is not node and isinstance(n, COMPREHENSIONS)]
            if inner: found.append(('comprehensions', node.lineno))
        for body in (getattr(node, name, None) for name in ('body', 'orelse', 'finalbody')):
            lines = [n.lineno for n in body] if isinstance(body, list) else []
            found += [('statements', n) for n, times in Counter(lines).items() if times > 1]
    return found

def imported(source):
    "Names that a cell imports, with their line; none where a comment says that they are passed on"
    if PASSED_ON in source: return []
    try: tree = ast.parse(source)
    except SyntaxError: return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == '__future__': continue
        if not isinstance(node, (ast.Import, ast.ImportFrom)): continue
        names = [a.asname or a.name.split('.')[0] for a in node.names]
        found += [(name, node.lineno) for name in names if name != '*']
    return found

def used_names(source):
    "Names that a cell uses, those in quoted annotations and in `__all__` among them"
    try: tree = ast.parse(source)
    except SyntaxError: return set()
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    quoted = [getattr(node, field, None) for node in ast.walk(tree)
              for field in ('annotation', 'returns')]
    quoted += [node.value for node in ast.walk(tree) if isinstance(node, ast.Assign)
               and {'__all__', '_all_'} & {getattr(t, 'id', '') for t in node.targets}]
    for node in quoted:
        if node is None: continue
        strings = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
        used |= {word for s in strings if isinstance(s, str) for word in re.findall(r'\w+', s)}
    return used

def unused_imports(path):
    "Rule and place of imports in exported cells that no exported cell of the notebook uses"
    cells = [(number, source) for number, (kind, source) in enumerate(cells_of(path))
             if kind == 'code' and exported(source)]
    # a package gives on what it imports
    if any(re.search(r'#\| *default_exp .*__init__', source) for _, source in cells_of(path)):
        return []
    used = {name for _, source in cells for name in used_names(source)}
    return [('imports', f'{path.relative_to(ROOT)}, cell {number}, line {line} ({name})')
            for number, source in cells for name, line in imported(source) if name not in used]

def places(path):
    "Rule and place of everything that breaks one in a notebook"
    found = []
    in_a_row = 0
    for number, (kind, source) in enumerate(cells_of(path)):
        if kind != 'code': continue
        lines = source.split('\n')
        here = [('columns', i) for i, line in enumerate(lines, 1) if len(line) > COLUMNS]
        here += broken_rules(source)
        if exported(source) and len(lines) > CELL_LINES + 1: here.append(('cells', 1))
        if imports_only(source): continue
        in_a_row = in_a_row + 1 if exported(source) else 0
        if in_a_row == EXPORTS_IN_A_ROW + 1: here.append(('rows', 1))
        found += [(rule, f'{path.relative_to(ROOT)}, cell {number}, line {line}')
                  for rule, line in here]
    return found + unused_imports(path)

def long_modules():
    "Rule and place of modules that want splitting"
    modules = [p for p in sorted((ROOT/'neuroscope').rglob('*.py')) if p.name != '_modidx.py']
    sizes = {p: len(p.read_text(encoding='utf-8').splitlines()) for p in modules}
    return [('modules', f'{p.relative_to(ROOT)}: {n} lines')
            for p, n in sizes.items() if n > MODULE_LINES]

def notebooks():
    return [p for p in sorted((ROOT/'nbs').rglob('*.ipynb'))
            if not any(part.startswith(('.', '_')) for part in p.relative_to(ROOT/'nbs').parts)]

def main(argv):
    named = [Path(a).resolve() for a in argv if not a.startswith('-')]
    if named:
        for path in named:
            for rule, place in places(path): print(f'{place}: {RULES[rule]}')
        return 0
    found = [f for p in notebooks() for f in places(p)] + long_modules()
    counts = {rule: sum(r == rule for r, _ in found) for rule in RULES}
    allowed = counts | (json.loads(LIMITS.read_text()) if LIMITS.exists() else {})
    for rule, words in RULES.items(): print(f'{counts[rule]:5} of {allowed[rule]:5}  {words}')
    worse = [rule for rule in RULES if counts[rule] > allowed[rule]]
    for rule in worse:
        print(f'\nMore than before: {RULES[rule]}')
        for place in [p for r, p in found if r == rule][-20:]: print(f'  {place}')
    if '--write' in argv:
        LIMITS.write_text(json.dumps({r: min(counts[r], allowed[r]) for r in RULES}, indent=2) + '\n')
    return bool(worse)

if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
