"""The API's calls: required privileges, parameters, and the method of `Machines`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import parse_qsl

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from infra_lab.proxmox_api import parameters
from infra_lab.proxmox_api.access import Token, Tokens
from infra_lab.proxmox_api.errors import PveError
from infra_lab.proxmox_api.machines import Caller, Machines
from infra_lab.proxmox_api.parameters import Parameters
from infra_lab.proxmox_api.state import Store
from infra_lab.proxmox_api.tasks import TaskList

_log = structlog.get_logger(__name__)
VERSION = {"version": "8.4.1", "release": "8.4", "repoid": "lab"}
#: Proxmox reports errors in the status line; the server moves the text there from this header.
REASON_HEADER = "x-status-reason"


class PveRequest:
    """One call: its token, and its parameters from query and body."""

    def __init__(self, token: Token, given: Parameters) -> None:
        self.token = token
        self.given = given


async def _authenticated(request: Request) -> PveRequest:
    tokens: Tokens = request.app.state.tokens
    token = tokens.authenticate(request.headers.get("authorization"))
    body = (await request.body()).decode()
    given = dict(parse_qsl(request.url.query, keep_blank_values=True))
    if body and "json" in request.headers.get("content-type", ""):
        given.update({key: _text(value) for key, value in json.loads(body).items()})
    else:
        given.update(parse_qsl(body, keep_blank_values=True))
    return PveRequest(token, given)


Asked = Annotated[PveRequest, Depends(_authenticated)]


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def create_app(store: Store, machines: Machines, tasks: TaskList, tokens: Tokens) -> FastAPI:
    """The API below `/api2/json`."""
    app = FastAPI(title="Proxmox VE of the lab", openapi_url=None)
    app.state.tokens = tokens
    app.add_exception_handler(PveError, _refusal)
    app.add_exception_handler(HTTPException, _unknown_call)
    for router in (_cluster_calls(store, machines), _node_calls(store, tasks), _vm_calls(store, machines)):
        app.include_router(router, prefix="/api2/json")
    return app


def _data(value: Any) -> dict[str, Any]:
    return {"data": value}


def _refusal(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PveError)
    _log.info("refused", method=request.method, path=request.url.path, status=error.status, reason=error.message)
    body: dict[str, Any] = {"data": None, "message": error.message}
    if error.parameters:
        body["errors"] = error.parameters
    # One line of ASCII: more a status line can't hold.
    reason = " ".join(error.message.split()).encode("ascii", "replace").decode()
    return JSONResponse(body, error.status, headers={REASON_HEADER: reason})


def _unknown_call(request: Request, error: Exception) -> JSONResponse:
    """Calls that this part of the API lacks; the real one has many more."""
    path = request.url.path.removeprefix("/api2/json")
    return _refusal(request, PveError(501, f"Method '{request.method} {path}' not implemented"))


def _cluster_calls(store: Store, machines: Machines) -> APIRouter:
    router = APIRouter()

    @router.get("/version")
    def version(asked: Asked) -> dict[str, Any]:
        return _data(VERSION)

    @router.get("/nodes")
    def nodes(asked: Asked) -> dict[str, Any]:
        with store.reading() as cluster:
            names = list(cluster.nodes)
        return _data([{"node": name, "id": f"node/{name}", "type": "node", "status": "online"} for name in names])

    @router.get("/cluster/resources")
    def resources(asked: Asked) -> dict[str, Any]:
        return _data(machines.rows(asked.token))

    @router.get("/cluster/nextid")
    def next_id(asked: Asked) -> dict[str, Any]:
        with store.reading() as cluster:
            return _data(str(next(number for number in range(100, 10**9) if number not in cluster.vms)))

    @router.get("/storage")
    def storages(asked: Asked) -> dict[str, Any]:
        with store.reading() as cluster:
            return _data([row for name in cluster.storages if (row := _storage_row(store, name, asked.token))])

    @router.get("/storage/{name}")
    def storage(name: str, asked: Asked) -> dict[str, Any]:
        with store.reading() as cluster:
            if name not in cluster.storages:
                raise PveError(500, f"storage '{name}' does not exist")
        asked.token.require(f"/storage/{name}", "Datastore.Allocate", "Datastore.Audit")
        return _data(_storage_row(store, name, asked.token))

    @router.get("/pools")
    def pools(asked: Asked) -> dict[str, Any]:
        return _data([])

    return router


def _storage_row(store: Store, name: str, token: Token) -> dict[str, Any] | None:
    if not any(token.has(f"/storage/{name}", right) for right in ("Datastore.Audit", "Datastore.AllocateSpace")):
        return None
    with store.reading() as cluster:
        storage = cluster.storages[name]
    row = {"storage": name, "type": storage.type, "content": storage.content, "shared": int(storage.shared)}
    return {**row, "nodes": ",".join(storage.nodes)} if storage.nodes else row


def _node_calls(store: Store, tasks: TaskList) -> APIRouter:
    router = APIRouter(prefix="/nodes/{node}")

    def on(node: str, asked: PveRequest) -> Caller:
        with store.reading() as cluster:
            cluster.require_node(node)
        return Caller(asked.token, node)

    @router.get("/tasks")
    def task_list(node: str, asked: Asked) -> dict[str, Any]:
        return _data([task.status() for task in tasks.all(on(node, asked).node)])

    @router.get("/tasks/{upid}/status")
    def task_status(node: str, upid: str, asked: Asked) -> dict[str, Any]:
        return _data(tasks.get(on(node, asked).node, upid).status())

    @router.get("/tasks/{upid}/log")
    def task_log(node: str, upid: str, asked: Asked) -> dict[str, Any]:
        lines = tasks.get(on(node, asked).node, upid).log or ["no content"]
        return _data([{"n": number, "t": line} for number, line in enumerate(lines, start=1)])

    @router.get("/storage")
    def node_storages(node: str, asked: Asked) -> dict[str, Any]:
        on(node, asked)
        with store.reading() as cluster:
            names = [name for name, storage in cluster.storages.items() if storage.on(node)]
        rows = [row for name in names if (row := _storage_row(store, name, asked.token))]
        return _data([{**row, "active": 1, "enabled": 1} for row in rows])

    @router.get("/storage/{name}/status")
    def storage_status(node: str, name: str, asked: Asked) -> dict[str, Any]:
        on(node, asked)
        with store.reading() as cluster:
            cluster.storage(name, node)
        asked.token.require(f"/storage/{name}", "Datastore.Audit", "Datastore.AllocateSpace")
        return _data({**(_storage_row(store, name, asked.token) or {}), "active": 1, "enabled": 1})

    @router.get("/storage/{name}/content")
    def storage_content(node: str, name: str, asked: Asked) -> dict[str, Any]:
        on(node, asked)
        asked.token.require(f"/storage/{name}", "Datastore.Audit", "Datastore.AllocateSpace")
        with store.reading() as cluster:
            cluster.storage(name, node)
            volumes = [
                {"volid": value.split(",", 1)[0], "vmid": vmid, "content": "images", "format": "raw"}
                for vmid, vm in cluster.vms.items()
                for value in vm.config.values()
                if value.startswith(f"{name}:")
            ]
        wanted = asked.given.get("content", "images")
        return _data([row for row in volumes if row["content"] == wanted])

    @router.get("/network")
    def network(node: str, asked: Asked) -> dict[str, Any]:
        on(node, asked)
        with store.reading() as cluster:
            return _data([{"iface": name, "type": "bridge", "active": 1} for name in cluster.bridges])

    @router.get("/lxc")
    def containers(node: str, asked: Asked) -> dict[str, Any]:
        on(node, asked)
        return _data([])

    return router


def _vm_calls(store: Store, machines: Machines) -> APIRouter:
    def on(node: str, asked: PveRequest) -> Caller:
        with store.reading() as cluster:
            cluster.require_node(node)
        return Caller(asked.token, node)

    router = APIRouter(prefix="/nodes/{node}/qemu")
    _vm_settings(router, machines, on)
    _vm_life(router, machines, on)
    return router


def _vm_settings(router: APIRouter, machines: Machines, on: Callable[[str, PveRequest], Caller]) -> None:
    """Calls on a VM's configuration."""

    @router.get("")
    def vms(node: str, asked: Asked) -> dict[str, Any]:
        return _data(machines.rows(on(node, asked).token, node))

    @router.post("")
    def create(node: str, asked: Asked) -> dict[str, Any]:
        return _data(machines.create(on(node, asked), parameters.CREATE.verify(asked.given)))

    @router.get("/{vmid}/config")
    def config(node: str, vmid: int, asked: Asked) -> dict[str, Any]:
        return _data(machines.config(on(node, asked), vmid))

    @router.put("/{vmid}/config")
    def configure(node: str, vmid: int, asked: Asked) -> dict[str, Any]:
        machines.configure(on(node, asked), vmid, parameters.UPDATE.verify(asked.given))
        return _data(None)

    @router.post("/{vmid}/config")
    def configure_later(node: str, vmid: int, asked: Asked) -> dict[str, Any]:
        return _data(machines.configure_later(on(node, asked), vmid, parameters.UPDATE.verify(asked.given)))

    @router.post("/{vmid}/clone")
    def clone(node: str, vmid: int, asked: Asked) -> dict[str, Any]:
        return _data(machines.clone(on(node, asked), vmid, parameters.CLONE.verify(asked.given)))

    @router.put("/{vmid}/resize")
    def resize(node: str, vmid: int, asked: Asked) -> dict[str, Any]:
        return _data(machines.resize(on(node, asked), vmid, parameters.RESIZE.verify(asked.given)))

    @router.post("/{vmid}/template")
    def template(node: str, vmid: int, asked: Asked) -> dict[str, Any]:
        return _data(machines.make_template(on(node, asked), vmid))


def _vm_life(router: APIRouter, machines: Machines, on: Callable[[str, PveRequest], Caller]) -> None:
    """Calls on a VM's state."""

    @router.get("/{vmid}/status/current")
    def status(node: str, vmid: int, asked: Asked) -> dict[str, Any]:
        return _data(machines.status(on(node, asked), vmid))

    @router.post("/{vmid}/status/start")
    def start(node: str, vmid: int, asked: Asked) -> dict[str, Any]:
        parameters.START.verify(asked.given)
        return _data(machines.start(on(node, asked), vmid))

    @router.post("/{vmid}/status/{action}")
    def end(node: str, vmid: int, action: str, asked: Asked) -> dict[str, Any]:
        if action not in ("stop", "shutdown", "reboot", "reset"):
            raise PveError(501, f"Method 'POST /nodes/{node}/qemu/{vmid}/status/{action}' not implemented")
        given = parameters.STOP.verify(asked.given)
        return _data(machines.end(on(node, asked), vmid, given, f"qm{action}"))

    @router.get("/{vmid}/snapshot")
    def snapshots(node: str, vmid: int, asked: Asked) -> dict[str, Any]:
        machines.status(on(node, asked), vmid)
        return _data([{"name": "current", "description": "You are here!"}])

    @router.get("/{vmid}/pending")
    def pending(node: str, vmid: int, asked: Asked) -> dict[str, Any]:
        shown = machines.config(on(node, asked), vmid)
        return _data([{"key": key, "value": value} for key, value in shown.items() if key != "digest"])

    @router.delete("/{vmid}")
    def destroy(node: str, vmid: int, asked: Asked) -> dict[str, Any]:
        parameters.DESTROY.verify(asked.given)
        return _data(machines.destroy(on(node, asked), vmid))
