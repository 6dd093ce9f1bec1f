"""The page's modules as one script: a page opened from a disk may import nothing from beside it.

The modules in assets/ are ECMAScript modules, each a file that imports names from others. Here each becomes a function
that is called once and gives what it exports, in the order of the imports. For that, imports are written
`import { name, other } from "./module.mjs";`, those of another room `"../../report/assets/module.mjs"`, and exports
stand before a declaration; only functions and constants are exported.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "assets"
IMPORT = re.compile(r'^import \{ ([\w, ]+) \} from "(?:\./|\.\./\.\./report/assets/)(\w+)\.mjs";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const) (\w+))", re.MULTILINE)
OTHER = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)


@cache
def bundle(entry: str = "page", others: tuple[Path, ...] = ()) -> str:
    """The script of a module and all that it imports, for a classic script element; each lies in `others` or FOLDER.

    Raises ValueError for an import in a circle, of a name that is not exported, or in another form.
    """
    folders = (*others, FOLDER)
    parts: dict[str, str] = {}
    exported: dict[str, set[str]] = {}

    def add(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"modules import each other in a circle: {' -> '.join([*above, name])}")
        if name in parts:
            return
        place = next((folder for folder in folders if (folder / f"{name}.mjs").is_file()), folders[0])
        text = (place / f"{name}.mjs").read_text(encoding="utf-8")
        for names, other in IMPORT.findall(text):
            add(other, (*above, name))
            if missing := set(names.split(", ")) - exported[other]:
                raise ValueError(f"{name}.mjs imports {', '.join(sorted(missing))}, which {other}.mjs does not export")
        exported[name] = set(EXPORT.findall(text))
        body = EXPORT.sub("", IMPORT.sub(r"const { \1 } = modules.\2;", text))
        if line := OTHER.search(body):
            raise ValueError(f"{name}.mjs: {line.group()}: not a form of import or export that is known here")
        parts[name] = f"modules.{name} = (() => {{\n{body}return {{ {', '.join(sorted(exported[name]))} }};\n}})();\n"

    add(entry, ())
    return f'(() => {{\n"use strict";\nconst modules = {{}};\n{"".join(parts.values())}}})();'
