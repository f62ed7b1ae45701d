"""Types: mypy on a copy of the package in which methods stand inside their classes.

fastcore's `@patch` adds a method from outside its class, so mypy does not see it there.
This makes a copy under `.mypy_cache/`, moves each such method into its class, runs mypy on the
copy, and gives errors with the file and line that a reader knows. A class of another module gets
the method's name alone, and takes anything. What `store_attr()` makes is declared. `python .ci/check_types.py` takes mypy's own options.
"""
import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPY = ROOT/'.mypy_cache'/'patched'
PACKAGE = 'neuroscope'
INDENT = '    '

def name_of(node):
    "The last name of `a.b.c`, of a call, or of a string; None for anything else"
    if isinstance(node, ast.Call): return name_of(node.func)
    if isinstance(node, ast.Attribute): return node.attr
    if isinstance(node, ast.Name): return node.id
    if isinstance(node, ast.Constant) and isinstance(node.value, str): return node.value
    return None

def class_names(node):
    "The classes that an annotation or an argument names: `A`, `A|B` or `(A, B)`"
    if isinstance(node, ast.BinOp): return class_names(node.left) + class_names(node.right)
    if isinstance(node, (ast.Tuple, ast.List)):
        return [name for part in node.elts for name in class_names(part)]
    return [name_of(node)] if name_of(node) else []

def patching(function):
    "The decorator that patches a function, or None"
    return next((d for d in function.decorator_list if name_of(d) in ('patch', 'patch_to')), None)

class Module:
    "One file: its classes, its patched methods, and lines with the number they have in the original"
    def __init__(self, path):
        self.path = path
        self.text = path.read_text(encoding='utf-8')
        self.lines = self.text.split('\n')
        self.tree = ast.parse(self.text)
        body = self.tree.body
        self.classes = {n.name: n for n in body if isinstance(n, ast.ClassDef)}
        self.aliases = {n.targets[0].id: name_of(n.value) for n in body
                        if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)}
        self.methods = [n for n in body if isinstance(n, ast.FunctionDef) and patching(n)]
        self.inside = defaultdict(list)    # class -> (number, text) of lines that go into it

    def targets(self, function):
        "Names of the classes that a patched function becomes a method of"
        decorator = patching(function)
        if name_of(decorator) == 'patch_to': names = class_names(decorator.args[0])
        else: names = class_names(function.args.args[0].annotation)
        return [self.aliases.get(name) or name for name in names]

    def stored(self, node):
        "Lines that declare what `store_attr()` in a class's `__init__` makes attributes"
        made = next((n for n in node.body if getattr(n, 'name', '') == '__init__'), None)
        calls = [n for n in ast.walk(made or node) if isinstance(n, ast.Call)]
        if not any(name_of(call) == 'store_attr' for call in calls): return []
        arguments = made.args.args[1:] + made.args.kwonlyargs
        return [(a.lineno, f'{a.arg}: _Any') for a in arguments]

    def header(self, function):
        "Decorators of the method inside its class"
        options = {k.arg for k in getattr(patching(function), 'keywords', ())}
        kept = [d for d in function.decorator_list if d is not patching(function)]
        lines = [(d.lineno, f'@{ast.unparse(d)}') for d in kept]
        if 'as_prop' in options: lines.append((function.lineno, '@property'))
        if 'cls_method' in options: lines.append((function.lineno, '@classmethod'))
        return lines

    def moved(self, function):
        "The lines of a method as they stand inside its class"
        lines = self.lines[function.lineno-1:function.end_lineno]
        first = function.args.args[0]
        if first.annotation and first.lineno == first.annotation.end_lineno:
            k = first.lineno - function.lineno
            start = len(lines[k].encode()[:first.col_offset].decode()) + len(first.arg)
            stop = len(lines[k].encode()[:first.annotation.end_col_offset].decode())
            lines[k] = lines[k][:start] + lines[k][stop:]
        return self.header(function) + list(enumerate(lines, function.lineno))

    def stub(self, function):
        "A line that makes the name known, and takes and gives anything"
        lines = [(number, text) for number, text in self.header(function)
                 if text in ('@property', '@classmethod')]
        return [*lines, (function.lineno, f'def {function.name}(self, *args, **kwargs): ...')]

    def numbered(self):
        "All lines of the copy, each with its number in the original"
        gone = set()
        elsewhere = set()          # of classes of other modules: no second function of that name
        for function in self.methods:
            if not set(self.targets(function)) & set(self.classes): elsewhere.add(function.lineno)
            else:
                first = min(d.lineno for d in function.decorator_list)
                gone |= set(range(first, function.end_lineno + 1))
        ends = {node.end_lineno: name for name, node in self.classes.items()}
        out = []
        for number, text in enumerate(self.lines, 1):
            if number in elsewhere: text = text.replace('def ', 'def _patched_', 1)
            out.append((number, '' if number in gone else text))
            if number not in ends: continue
            inside = self.stored(self.classes[ends[number]]) + self.inside[ends[number]]
            out += [(n, INDENT + line) for n, line in inside]
        return [*out, (len(self.lines), 'from typing import Any as _Any')]

def with_methods():
    "Every module by its path, with the methods of its classes"
    modules = [Module(p) for p in sorted((ROOT/PACKAGE).rglob('*.py')) if p.name != '_modidx.py']
    home = {name: m for m in modules for name in m.classes}
    for module in modules:
        for function in module.methods:
            for name in module.targets(function):
                if name in module.classes: module.inside[name] += module.moved(function)
                elif name in home: home[name].inside[name] += module.stub(function)
    return {m.path.relative_to(ROOT).as_posix(): m.numbered() for m in modules}

def write_copy(modules):
    "Write the copy; a file that has not changed stays, so that mypy's cache holds"
    for name, lines in modules.items():
        path = COPY/name
        text = '\n'.join(line for _, line in lines)
        if path.exists() and path.read_text(encoding='utf-8') == text: continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')
    for path in (COPY/PACKAGE).rglob('*.py'):
        if path.relative_to(COPY).as_posix() not in modules: path.unlink()

def main(argv):
    modules = with_methods()
    write_copy(modules)
    (COPY.parent/'.gitignore').write_text('*\n')
    command = [sys.executable, '-m', 'mypy', '--config-file', str(ROOT/'pyproject.toml'),
               '--cache-dir', str(COPY.parent), *argv]
    run = subprocess.run(command, cwd=COPY, capture_output=True, text=True,
                         env=os.environ | dict(MYPYPATH=str(COPY)))
    for line in (run.stdout + run.stderr).splitlines():
        found = re.match(r'([\w/]+\.py):(\d+)(.*)', line)
        if found and found[1] in modules:
            original = modules[found[1]][int(found[2]) - 1][0]
            line = f'{found[1]}:{original}{found[3]}'
        print(line)
    return run.returncode

if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
