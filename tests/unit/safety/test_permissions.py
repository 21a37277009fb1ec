"""What a command writes is its user's alone, and what older releases left open is closed."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from perennial.continual.atomic_file import written_whole
from perennial.ops.safety.permissions import close_to_others


def modes(root: Path) -> dict[str, int]:
    paths = [root, *root.rglob("*")]
    return {str(path.relative_to(root)): stat.S_IMODE(path.lstat().st_mode) for path in paths}


def open_to_others(root: Path) -> list[str]:
    return [name for name, mode in modes(root).items() if mode & 0o077]


@pytest.mark.slow
def test_what_init_writes_nobody_else_may_read(tmp_path: Path) -> None:
    command = "import os, sys; os.umask(0); from perennial.ops.cli import main; sys.exit(main())"
    folder = tmp_path / "workspace"
    folder.mkdir(mode=0o700)
    for arguments in (("init", "intent"), ("learn", "describe", "card", "A card.")):
        done = subprocess.run([sys.executable, "-c", command, *arguments], cwd=folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    assert {"perennial.toml", "var", "var/ledger.db"} <= set(modes(folder))
    assert open_to_others(folder) == []


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o077, 0o600, 0o700), (0o007, 0o660, 0o770), (0o027, 0o640, 0o750)]
)
def test_older_files_are_closed_as_the_setting_says(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    root = tmp_path / "var"
    (root / "traffic").mkdir(parents=True)
    (root / "traffic" / "rows").write_text("a text")
    (tmp_path / "outside").write_text("not ours")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "folder-link").symlink_to(tmp_path)
    for path in (root, root / "traffic"):
        path.chmod(0o777)
    (root / "traffic" / "rows").chmod(0o666)
    (tmp_path / "outside").chmod(0o666)
    assert close_to_others([root, tmp_path / "nowhere"], umask) == 3
    assert stat.S_IMODE((root / "traffic").stat().st_mode) == folder
    assert stat.S_IMODE((root / "traffic" / "rows").stat().st_mode) == file
    assert stat.S_IMODE((tmp_path / "outside").stat().st_mode) == 0o666
    assert close_to_others([root], umask) == 0


@pytest.mark.parametrize("umask", [0o077, 0o007, 0o022])
def test_weights_have_the_permissions_of_every_other_file(tmp_path: Path, umask: int) -> None:
    import numpy as np

    before = os.umask(umask)
    try:
        with written_whole(tmp_path / "weights.safetensors") as temporary:
            save_file({"w": np.zeros(3, dtype=np.float32)}, temporary)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "weights.safetensors").stat().st_mode) == 0o666 & ~umask
