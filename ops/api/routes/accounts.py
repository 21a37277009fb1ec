"""Accounts and their tokens over HTTP: for an administrator, and each caller's word of who they are."""

from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Path
from pydantic import BaseModel, ConfigDict, Field

from perennial.ops.api.auth import Needs, NeedsSomewhere
from perennial.ops.api.paging import NamePage
from perennial.ops.commands.accounts import AccountView, NewToken, add_token, set_account
from perennial.ops.ledger import Ledger
from perennial.ops.safety.roles import Caller, Role

__all__ = ["AccountBody", "add_accounts"]

_admin = Needs(Role.ADMIN)
_Name = Annotated[str, Path(min_length=1, max_length=100)]
_Role = Literal["viewer", "labeller", "operator", "admin"]


class AccountBody(BaseModel):
    """What an account is to be; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    roles: dict[str, _Role] | None = Field(None, max_length=1_000, description="by model, * for all of them")
    blocked: bool | None = None
    password: str | None = Field(None, max_length=200, description="12 characters at least; None leaves it")


class TokenBody(BaseModel):
    """A token to be made."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field("", max_length=100, description="what it is for")
    days: float | None = Field(None, gt=0, le=3_650, description="it ends after so many; None: when it is revoked")


class Who(BaseModel):
    """Who asks, and their roles by model."""

    name: str
    roles: dict[str, str]


def add_accounts(api: FastAPI, ledger: Ledger) -> None:
    """Add the routes: only an administrator of all models may use them, but for `/v1/who`."""

    @api.get("/v1/who")
    def who(caller: Annotated[Caller, Depends(NeedsSomewhere(Role.VIEWER))]) -> Who:
        """Who this token belongs to, and what it may do."""
        return Who(name=caller.name, roles={model: role.word for model, role in caller.roles.items()})

    @api.get("/v1/accounts", dependencies=[Depends(_admin)])
    def accounts(page: Annotated[NamePage, Depends()]) -> list[AccountView]:
        """Every account, by name."""
        return [AccountView.of(row) for row in page.of(ledger.accounts(), lambda row: row.name)]

    @api.put("/v1/accounts/{account}")
    def put_account(account: _Name, body: AccountBody, actor: Annotated[str, Depends(_admin)]) -> AccountView:
        """Make an account, or change what is given of it."""
        given = body.model_dump()
        return set_account(ledger, account, actor=actor, **given)

    @api.delete("/v1/accounts/{account}", status_code=204)
    def remove_account(account: _Name, actor: Annotated[str, Depends(_admin)]) -> None:
        """Take an account out; its tokens and sessions end with it."""
        ledger.remove_account(account, actor=actor)

    @api.post("/v1/accounts/{account}/tokens", status_code=201)
    def new_token(account: _Name, body: TokenBody, actor: Annotated[str, Depends(_admin)]) -> NewToken:
        """Make a token that acts for an account; it is told this once."""
        return add_token(ledger, account, label=body.label, days=body.days, actor=actor)

    @api.delete("/v1/accounts/{account}/tokens/{number}", status_code=204)
    def revoke_token(
        account: _Name, number: Annotated[int, Path(ge=1, le=2**31 - 1)], actor: Annotated[str, Depends(_admin)]
    ) -> None:
        """Let a token in no more."""
        ledger.revoke_access_token(account, number, actor=actor)
