"""The pictures that rows name, as they are kept: of our own encoding, and of one kind."""

from starlette.exceptions import HTTPException

from perennial.continual.images import ImageStore, is_image_name
from perennial.continual.images.picture import name_of_file
from perennial.ops.console.desk import Desk, Shown
from perennial.ops.console.visit import Raw, Visit

__all__ = ["add_images"]

_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"


def add_images(desk: Desk) -> None:
    """Add the address of a picture, which whoever may read texts may look at."""

    @desk.page("/console/models/{model}/images/{file}", needs="labeller")
    def image(_: Visit, model: str, file: str) -> Shown:
        name = name_of_file(file)
        picture = ImageStore(desk.workspace.images(model)).get(name) if is_image_name(name) else None
        if picture is None:
            raise HTTPException(404, "there is no such image; it may be erased, or older than the log keeps requests")
        return Raw(content=picture.content, kind="image/jpeg", policy=_POLICY)
