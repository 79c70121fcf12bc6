"""A contract that is ready to serve: its document, compiled operations and handlers."""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from api.contract.compile.document import Document, load_document
from api.contract.compile.mistakes import ScopeFault, mistakes
from api.contract.compile.operations import Operation, compile_operations
from api.contract.compile.schemas import Validators
from api.contract.compile.transitions import StateMachine, compile_state_machine
from api.contract.engine_errors import Mistake
from api.contract.serve.calls import Handler
from api.contract.serve.verification import Verifier


@dataclass(frozen=True, slots=True)
class Contract:
    """A checked document with its operations and handlers, both by `operationId`."""

    document: Document
    validators: Validators
    verifier: Verifier
    operations: Mapping[str, Operation]
    handlers: Mapping[str, Handler]
    package: str
    """The module or package with the handlers."""

    def state_machine(self, name: str) -> StateMachine:
        """Return the state machine of a component schema.

        Raises:
            ContractError: the component has no valid state machine.
        """
        try:
            return compile_state_machine(self.document.bundle, name)
        except Mistake as mistake:
            raise self.document.error(mistake) from mistake


def load_contract(
    folder: Path,
    handlers: str,
    scope_fault: ScopeFault,
    public_url: str | None = None,
    *,
    is_tested: bool = False,
) -> Contract:
    """Read the contract in a folder and compile it.

    `handlers` names a package with one module per tag, or a single module for all operations. Each
    operation is handled by the function that its `operationId` names. `scope_fault` returns the
    reason why an operation's scopes are invalid, or None. With `public_url`, the document names it
    as its first server, and paths in responses begin with its path. If the contract
    `is_tested`, the schema of a response is compiled when it is first needed, which saves memory.

    Raises:
        ContractError: the contract has a mistake; the error names its file and location.
    """
    document = load_document(folder)
    if public_url is not None:
        document = document.served_at(public_url)
    try:
        for mistake in mistakes(document.bundle, scope_fault):
            raise mistake
        validators = Validators(document.bundle)
        verifier = Verifier(document.bundle, validators)
        if not is_tested:
            verifier.compile_all()
        compiled = compile_operations(document.bundle, validators)
        operations = {operation.id: operation for operation in compiled}
        found = find_handlers(operations, handlers)
    except Mistake as mistake:
        raise document.error(mistake) from mistake
    return Contract(document, validators, verifier, operations, found, handlers)


def find_handlers(operations: Mapping[str, Operation], package: str) -> Mapping[str, Handler]:
    """Return the handler of each operation, by `operationId`, from a package or single module.

    Raises:
        Mistake: an operation has no handler, or a public function of a module has no operation.
    """
    is_package = hasattr(importlib.import_module(package), "__path__")
    modules: dict[str, ModuleType] = {}
    handlers: dict[str, Handler] = {}
    for operation in operations.values():
        name = f"{package}.{operation.tag}" if is_package else package
        try:
            modules[name] = module = importlib.import_module(name)
            handlers[operation.id] = getattr(module, operation.id)
        except (ImportError, AttributeError) as error:
            reason = f"no handler {name}.{operation.id}: {error}; write it or correct operationId"
            raise Mistake((*operation.place, "operationId"), reason) from error
    for name, module in modules.items():
        for handler, function in inspect.getmembers(module, inspect.isfunction):
            is_own = function.__module__ == name and not handler.startswith("_")
            if is_own and handlers.get(handler) is not function:
                reason = f"no operation for the handler {name}.{handler}; declare it"
                raise Mistake(("paths",), reason)
    return handlers
