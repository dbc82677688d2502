"""Plug-ins: networks and other parts of a trial that users bring, by `package.module:name` or as Python objects.

Their code runs only where the user asked for it: `load_plugin` refuses each name that this process was not told to
allow. Free of torch, so that what is wrong with a name is told at once. docs/plug-ins.md has the protocols.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import re
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any, Literal, TypeVar, get_args

from trainables.errors import PluginError, one_line

PluginKind = Literal["network", "metric", "dataset", "augmentation", "mentor"]

PLUGIN_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
PLUGIN_FORM = "package.module:name"
CHECK_SECONDS = 120.0  # for importing a plug-in and trying it once, before a search
SLOW_SECONDS = 60.0  # after which it is told that a plug-in without a limit has not returned
OWN_PACKAGES = ("trainables", "tune_mentormix", "search_spaces")  # which travel with every search
_SESSION = "__main__:"  # before the names of objects that are in no module that can be imported

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

_allowed: set[str] = set()
_imported: dict[str, str] = {}  # outermost package → digest of its source when a plug-in of it was allowed
_objects: dict[str, Any] = {}  # by name, those that this process was given


@dataclass(frozen=True)
class Plugins:
    """What another process needs to use plug-ins; Ray's pickle sends objects of `__main__` with their code."""

    kinds: Mapping[str, PluginKind] = field(default_factory=dict)  # by name
    folders: tuple[str, ...] = ()  # where Python found their modules here; on this machine it finds them there too
    objects: Mapping[str, Any] = field(default_factory=dict)

    def allow(self) -> None:
        """Allows them in this process."""
        _objects.update(self.objects)
        for folder in self.folders:
            _search_in(folder)
        allow_plugins(self.kinds)


def is_plugin(name: object) -> bool:
    """Whether a name has the form `package.module:name`."""
    return isinstance(name, str) and re.fullmatch(PLUGIN_PATTERN, name) is not None


def plugins_in(settings: Mapping[str, Any]) -> dict[str, PluginKind]:
    """Returns the plug-ins that settings of data, of a trial or of a search name, with their kinds."""
    return {settings[kind]: kind for kind in get_args(PluginKind) if is_plugin(settings.get(kind))}


def plugin_name(given: Any) -> str:
    """Returns the name of a plug-in, which may be given as a class or a function too.

    An object that no module has under its name is kept in this process, and travels with its code. Raises PluginError
    if it is neither.
    """
    if isinstance(given, str):
        if not is_plugin(given):
            raise PluginError(f"a plug-in must be named as {PLUGIN_FORM}, got {given!r}")
        return given
    if not inspect.isclass(given) and not inspect.isfunction(given):
        raise PluginError(f"a plug-in must be {PLUGIN_FORM}, a class or a function, got one {type(given).__name__}")
    module, name = given.__module__, given.__name__
    if not name.isidentifier():
        raise PluginError(f"a plug-in needs a name: define the function {name} with def")
    if module != "__main__" and getattr(sys.modules.get(module), name, None) is given:
        return f"{module}:{name}"
    _objects[_SESSION + name] = given
    return _SESSION + name


def allow_plugins(names: Iterable[str]) -> None:
    """Allows these plug-ins in this process: the user asked for their code to run.

    Those whose source changed since they were last allowed here, as in a notebook, are imported again.
    """
    for name in names:
        _allowed.add(name)
        if name not in _objects and not name.startswith(_SESSION):
            _forget_if_changed(name)


def sendable(kinds: Mapping[str, PluginKind]) -> Plugins:
    """Returns plug-ins that are allowed here, for other processes. Raises PluginError if one is not to be found."""
    folders = {str(_location(name, kind).parent) for name, kind in kinds.items() if name not in _objects}
    objects = {name: _objects[name] for name in kinds if name in _objects}
    return Plugins(dict(kinds), tuple(sorted(folders)), objects)


def with_plugins(work: Callable[..., Result], kinds: Mapping[str, PluginKind]) -> Callable[..., Result]:
    """Returns a function for another process, which allows these plug-ins there and then does the work."""
    plugins = sendable(kinds)

    def call(*arguments: Any) -> Result:
        plugins.allow()
        return work(*arguments)

    return call


def load_plugin(kind: PluginKind, name: str) -> Any:
    """Returns a plug-in, a class or a function, imported if need be.

    Raises PluginError if it was not allowed, cannot be imported, or is nothing that can be called.
    """
    if name not in _allowed:
        raise PluginError(f"{kind} {name} is a plug-in: its code is not run here unless you ask for it")
    if name in _objects:
        return _objects[name]
    _location(name, kind)
    module_name, _, attribute = name.partition(":")
    try:
        module = import_module(module_name)
    except (Exception, SystemExit) as error:
        raise PluginError(f"{kind} {name} cannot be imported: {_described(error)}") from error
    if not callable(found := getattr(module, attribute, None)):
        lacks = f"is not there: {module.__file__} has no {attribute}"
        what = "is no class or function" if hasattr(module, attribute) else lacks
        raise PluginError(f"{kind} {name} {what}")
    return found


def call_plugin(kind: PluginKind, name: str, work: Callable[[], Result]) -> Result:
    """Calls `work`, which uses a plug-in; whatever it raises becomes a PluginError that names the plug-in."""
    try:
        return work()
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{kind} {name} raised {_described(error)}") from error


def within_time(kind: PluginKind, name: str, work: Callable[[], Result], seconds: float | None = None) -> Result:
    """Calls `work`, which uses a plug-in, in a thread; raises PluginError if it does not return in time."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised again below
            errors.append(error)

    limit = CHECK_SECONDS if seconds is None else seconds
    thread = threading.Thread(target=call, daemon=True)  # Python cannot end it: it must not hold up the process
    thread.start()
    thread.join(limit)
    if errors:
        raise errors[0]
    if not results:
        raise PluginError(f"{kind} {name} hangs: it did not return within {limit:g} s")
    return results[0]


@contextmanager
def told_if_slow(kind: PluginKind, name: str) -> Iterator[None]:
    """Warns in one line if the block, in which a plug-in may take as long as it needs, takes long."""
    wait = f"{kind} {name} has not returned for {SLOW_SECONDS:g} s, and is still waited for: interrupt if it hangs"
    timer = threading.Timer(SLOW_SECONDS, logger.warning, [wait])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def why_not_usable(plugins: Plugins) -> str | None:
    """Runs in a worker: allows plug-ins and imports them, each within `CHECK_SECONDS`.

    Returns in one line why that is impossible, or None.
    """
    plugins.allow()
    try:
        for name, kind in plugins.kinds.items():
            within_time(kind, name, partial(load_plugin, kind, name))
    except PluginError as error:
        return str(error)
    return None


def source_digests(kinds: Mapping[str, PluginKind]) -> dict[str, str]:
    """Returns a sha256 of the source of each plug-in, without importing it.

    That of a module is its file; in a package, all files of the outermost package; of an object, its own lines.
    Raises PluginError if there is no source.
    """
    return {name: _source_digest(name, kind) for name, kind in kinds.items()}


def changed_plugin(recorded: Mapping[str, str], kinds: Mapping[str, PluginKind]) -> str | None:
    """Returns the first plug-in whose source is not the recorded one, or None. Raises PluginError as the digests do.

    A plug-in without a record counts as changed.
    """
    now = source_digests(kinds)
    return next((name for name, digest in now.items() if recorded.get(name) != digest), None)


def source_folders(names: Iterable[str]) -> list[Path]:
    """Returns the folders and files that must travel with these plug-ins, which are on the path of this machine.

    Installed packages are not among them: each machine has its own.
    """
    found = {_located(name) for name in names if name not in _objects}
    return sorted(path for path in found if path and path.stem not in OWN_PACKAGES and not _is_installed(path))


def blamed_plugin(error: BaseException, kinds: Mapping[str, PluginKind]) -> str | None:
    """Returns in one line which plug-in raised an error, by the code that it passed through; None: none did."""
    places = list(_places(error))
    for is_exact in (True, False):
        for name, kind in kinds.items():
            if any(_is_of(name, code, module, is_exact) for code, module in places):
                return f"{kind} {name} raised {_described(error)}"
    return None


def in_words(kinds: Mapping[str, PluginKind]) -> str:
    """Returns plug-ins for a message, such as `network birds.nets:Net`."""
    return ", ".join(f"{kind} {name}" for name, kind in kinds.items())


def _forget_if_changed(name: str) -> None:
    place, package = _located(name), _package(name)
    if place is None or place.stem in OWN_PACKAGES or _is_installed(place):
        return
    try:
        digest = _digest_of_files(place)
    except OSError:
        return  # what is wrong is told where it is needed
    if _imported.setdefault(package, digest) != digest:
        for module in [each for each in sys.modules if each == package or each.startswith(f"{package}.")]:
            del sys.modules[module]
        invalidate_caches()
        _imported[package] = digest


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def _location(name: str, kind: PluginKind) -> Path:
    """Returns the outermost package's folder, or the module's file."""
    if name.startswith(_SESSION):
        raise PluginError(f"{kind} {name} was given as a Python object: give it again, with plug_ins=[…] in Python")
    found = _located(name)
    if found is None:
        package = _package(name)
        raise PluginError(
            f"{kind} {name} cannot be imported: there is no package or module {package}; install it, "
            f"or put the folder that holds it on PYTHONPATH"
        )
    return found


def _located(name: str) -> Path | None:
    try:
        spec = find_spec(_package(name))
        if spec is None:
            _search_in(os.getcwd())
            spec = find_spec(_package(name))
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    place = folders[0] if folders else spec.origin
    return Path(place).absolute() if place and Path(place).exists() else None


def _package(name: str) -> str:
    return re.split("[.:]", name, maxsplit=1)[0]


def _search_in(folder: str) -> None:
    """Lets Python find modules in a folder too, after all others."""
    if folder not in sys.path:
        sys.path.append(folder)


def _is_installed(path: Path) -> bool:
    installed = [Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib")]
    return any(path.is_relative_to(folder) for folder in installed)


def _source_digest(name: str, kind: PluginKind) -> str:
    if name in _objects:
        try:
            return hashlib.sha256(inspect.getsource(_objects[name]).encode()).hexdigest()
        except (OSError, TypeError) as error:
            raise PluginError(
                f"{kind} {name} has no source that can be read: define it in a file or in a notebook's cell"
            ) from error
    place = _location(name, kind)
    try:
        return _digest_of_files(place)
    except OSError as error:
        raise PluginError(f"the source of {kind} {name} cannot be read: {one_line(error)}") from error


def _digest_of_files(place: Path) -> str:
    """Returns the sha256 of a module's file, or of the names and contents of all modules in a folder."""
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        digest.update(f"{path.relative_to(place.parent)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _places(error: BaseException) -> Iterator[tuple[CodeType, str]]:
    """The code that an error, and those that it came from, passed through, each with the name of its module."""
    now: BaseException | None = error
    while now is not None:
        trace = now.__traceback__
        while trace is not None:
            yield trace.tb_frame.f_code, str(trace.tb_frame.f_globals.get("__name__"))
            trace = trace.tb_next
        now = now.__cause__ or now.__context__


def _is_of(name: str, code: CodeType, module: str, is_exact: bool) -> bool:
    """Whether code is that of a plug-in, or if it need not be exact, of a module of its package."""
    if name in _objects:
        given = _objects[name]
        return module == given.__module__ and code.co_qualname.startswith(given.__qualname__)
    own, _, attribute = name.partition(":")
    if is_exact:
        return module == own and code.co_qualname.split(".")[0] == attribute
    return module.partition(".")[0] == _package(name)
