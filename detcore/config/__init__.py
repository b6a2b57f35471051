"""What a training run is made of: typed settings, read from YAML with errors that name file, line,
key and choices."""

from detcore.config.identity import CODE_VERSION, identity_dict, identity_of
from detcore.config.load import (
    ConfigError,
    Memo,
    check_path,
    from_dict,
    merge,
    nearest,
    set_path,
    to_dict,
)
from detcore.config.schema import Config
from detcore.config.yaml_file import YamlError, YamlFile, read_yaml

__all__ = [
    "CODE_VERSION",
    "Config",
    "ConfigError",
    "Memo",
    "YamlError",
    "YamlFile",
    "check_path",
    "from_dict",
    "identity_dict",
    "identity_of",
    "merge",
    "nearest",
    "read_yaml",
    "set_path",
    "to_dict",
]
