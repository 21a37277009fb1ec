"""OpenVINO, for a process that loads ahead what its jobs will need: to import this module is to load it."""

from perennial.exporters.openvino_toolkit import import_openvino

import_openvino()
