"""From a plugin in Python to its component: `python build.py DIR COMPONENT CACHE`.

`pointsman plugin build` puts this file beside the SDK (`pointsman_plugin/`) and the contract (`contract/`), and runs it with the
toolchain's own Python. What the sources import of the SDK becomes the component's world: so a plugin asks for the grants that it needs,
and for no others.

What it does not do: it installs nothing, runs nothing of the plugin outside of WebAssembly, and writes nothing but the component and its
copy in CACHE.

**Invariant:** the component hangs on the sources, the SDK, the contract and the toolchain alone. A build of the same ones is a copy.
"""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOOKS = {"Routing": "routing", "Prompting": "prompting", "Caching": "caching"}
IMPORTS = {"clock", "config", "embeddings", "http", "kv", "log", "metrics", "random", "upstreams"}
SDK = "pointsman_plugin"
#: Folders that hold no part of a plugin.
NOT_SOURCES = {"__pycache__", "build", "dist", "node_modules", "tests", "vendor", "venv"}


class Wrong(Exception):
    """What is wrong with the plugin, for whoever wrote it."""


def sources(folder: Path) -> dict[str, Path]:
    """The Python files of a plugin, by their path in its folder. Whole packages may stand beside the plugin's own file."""
    found = {}
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in NOT_SOURCES and not name.startswith("."))
        folders[:] = [name for name in folders if not (Path(root) / name / "pyvenv.cfg").exists()]
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith("test_"):
                path = Path(root) / name
                found[path.relative_to(folder).as_posix()] = path
    return found


def parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text("utf-8"), filename=str(path))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise Wrong(f"{path}: {error}") from None


def name_of(node: ast.expr) -> str:
    """`Routing` of `Routing` and of `pointsman_plugin.Routing`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def hooks(module: ast.Module, path: Path) -> dict[str, str]:
    """The hooks that a module has, and the class of each."""
    found: dict[str, str] = {}
    for node in module.body:
        if not isinstance(node, ast.ClassDef):
            continue
        for hook in (HOOKS[base] for base in map(name_of, node.bases) if base in HOOKS):
            if hook in found:
                raise Wrong(f"{path}:{node.lineno}: `{node.name}` has the hook `{hook}`, and so has `{found[hook]}`; leave one of them")
            found[hook] = node.name
    return found


def imports(module: ast.Module) -> set[str]:
    """The host's interfaces that a file imports through the SDK."""
    found: set[str] = set()
    whole: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module == SDK:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{SDK}."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == SDK:
                    whole.add(alias.asname or SDK)
                elif alias.name.startswith(f"{SDK}."):
                    found.add(alias.name.split(".")[1])
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in whole:
            found.add(node.attr)
    return found & IMPORTS


def world(uses: set[str], has: list[str]) -> dict[str, str]:
    """The contract with a world of what the sources use and have."""
    texts = {path.name: path.read_text("utf-8") for path in sorted((HERE / "contract").iterdir())}
    package = re.search(r"^package ([^;]+);", next(iter(texts.values())), re.MULTILINE)
    assert package
    lines = [f"import {name};" for name in ["types", "request-data", *sorted(uses)]]
    lines += [f"export {name};" for name in ["lifecycle", *has]]
    return {**texts, "built.wit": f"package {package[1]};\n\nworld built {{ {' '.join(lines)} }}\n"}


def entry(project: dict[str, str], module: str, has: dict[str, str]) -> str:
    """The module that a component is made of: the plugin's hooks, in the contract's clothes."""
    classes = list(dict.fromkeys(has.values()))
    info = ", ".join(repr(project.get(key, "")) for key in ("name", "version", "description"))
    made = "".join(f"_{name} = _plugin.{name}()\n" for name in classes)
    exported = "".join(f"{hook.capitalize()} = _export.{hook}(_{name})\n" for hook, name in has.items())
    hooks_of = ", ".join(f"_{name}" for name in classes)
    return (
        f"import {module} as _plugin\nfrom {SDK} import _export\n\n{made}"
        f"Lifecycle = _export.lifecycle({info}, [{hooks_of}])\n{exported}"
    )


def componentize(scratch: Path, contract: dict[str, str], own: str, files: dict[str, Path]) -> Path:
    """Runs componentize-py on copies, so that it sees nothing else of this machine."""
    app, wit = scratch / "app", scratch / "wit"
    for name, path in files.items():
        copy = app / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    shutil.copytree(HERE / SDK, app / SDK, ignore=shutil.ignore_patterns("__pycache__"))
    (app / "pointsman_entry.py").write_text(own, "utf-8")
    wit.mkdir()
    for name, text in contract.items():
        (wit / name).write_text(text, "utf-8")
    # An empty environment, or else it would take this machine's packages in.
    (scratch / "venv/lib/site-packages").mkdir(parents=True)
    environment = {**os.environ, "VIRTUAL_ENV": str(scratch / "venv"), "PYTHONHASHSEED": "0"}
    environment.pop("PYTHONPATH", None)
    made = scratch / "made.wasm"
    program = Path(sys.executable).parent / "componentize-py"
    command = [program, "--quiet", "--wit-path", wit, "--world", "built", "--world-module", "pointsman_wit"]
    command += ["componentize", "--stub-wasi", "--python-path", app, "--output", made, "pointsman_entry"]
    ran = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        said = (ran.stdout + ran.stderr).strip().replace(f"{app}/", "")
        raise Wrong(f"it does not build:\n{said}")
    return made


def build(folder: Path, file: Path, cache: Path) -> None:
    manifest = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    module = manifest.get("tool", {}).get("pointsman", {}).get("module", "plugin")
    path = folder / f"{module}.py"
    if not path.is_file():
        raise Wrong(f"there is no {path.name}; write the plugin there, or name its file as `module` under [tool.pointsman] in pyproject.toml")
    files = sources(folder)
    has = hooks(parsed(path), path)
    if not has:
        raise Wrong(f"{path} has no hook; write a class with the base Routing, Prompting or Caching")
    uses = set().union(*(imports(parsed(path)) for path in files.values()))
    contract, own = world(uses, list(has)), entry(manifest.get("project", {}), module, has)

    digest = hashlib.sha256()
    sdk = {f"{SDK}/{path.name}": path for path in sorted((HERE / SDK).glob("*.py"))}
    parts = [version("componentize-py"), own, *contract.values()]
    parts += [text for name, path in (files | sdk).items() for text in (name, path.read_text("utf-8"))]
    for part in parts:
        digest.update(f"{len(part)}\n{part}".encode())
    kept = cache / f"{digest.hexdigest()}.wasm"
    if not kept.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="pointsman-python-") as scratch:
            made = componentize(Path(scratch).resolve(), contract, own, files)
            beside = kept.with_suffix(f".{os.getpid()}")
            shutil.copyfile(made, beside)
            beside.rename(kept)
    os.utime(kept)
    shutil.copyfile(kept, file)


def main() -> int:
    folder, file, cache = (Path(argument).resolve() for argument in sys.argv[1:])
    try:
        build(folder, file, cache)
    except (Wrong, tomllib.TOMLDecodeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
