"""Completion of the console command in a shell: commands, data tools, and the keys and groups of a configuration.

    eval "$(fedvssl --completion bash)"
    eval "$(fedvssl --completion zsh)"

The scripts ask `fedvssl --complete <words>`, whose last word is the one to complete. Hydra knows the overrides.
"""

from collections.abc import Collection, Mapping, Sequence

BASH = """\
_fedvssl() {
  local line="${COMP_LINE:0:COMP_POINT}" word before IFS=$' \\t\\n' words
  read -ra words <<< "$line"
  case "$line" in *[[:space:]]) words+=("") ;; esac
  word="${words[${#words[@]}-1]}"
  before="${word%"${word##*[=:]}"}"   # bash takes these for the ends of words
  IFS=$'\\n'
  COMPREPLY=($("${words[0]}" --complete "${words[@]:1}" 2>/dev/null))
  COMPREPLY=("${COMPREPLY[@]#"$before"}")
  case "${COMPREPLY[0]}" in *[=./]) compopt -o nospace 2>/dev/null ;; esac
}
complete -o default -F _fedvssl fedvssl"""
ZSH = """\
#compdef fedvssl
_fedvssl() {
  local -a found
  found=("${(@f)$("${words[1]}" --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  found=("${(@)found:#}")
  if (( $#found )); then compadd -S '' -- "${found[@]}"; else _files; fi
}
compdef _fedvssl fedvssl"""
SCRIPTS = {"bash": BASH, "zsh": ZSH}
FLAGS = ("--completion", "--help", "--version")


def script(shell: str = "") -> str:
    """The script for a shell.

    Raises:
        ValueError: if it is another one.
    """
    if shell not in SCRIPTS:
        raise ValueError(f"{f'--completion {shell}'.strip()}: choose {' or '.join(SCRIPTS)}.")
    return SCRIPTS[shell]


def complete(words: Sequence[str], commands: Mapping[str, str], tools: Collection[str]) -> list[str]:
    """Words that may stand in the place of the last one; [] leaves the names of files to the shell.

    Args:
        words: of the command line after `fedvssl`; the last one may be empty.
        commands: names of commands -> their modules.
        tools: names of the data tools.
    """
    *before, word = words or [""]
    if not before:
        return sorted(name for name in [*commands, "data", *FLAGS] if name.startswith(word))
    command = commands.get(before[0], "").rpartition(".")[2]
    if before[0] == "--completion":
        return [shell for shell in SCRIPTS if shell.startswith(word)]
    if before == ["data"]:
        return sorted(name for name in tools if name.startswith(word))
    if " " in "".join(words):
        return []  # Hydra takes a line apart at its blanks
    return overrides(command, before[1:], word) if command else []


def names_of_runs() -> list[str]:
    """`last`, and the folders of all runs."""
    from fedvssl.files.runs import LAST, all_runs

    return [LAST, *map(str, all_runs())]


def overrides(command: str, before: Sequence[str], word: str) -> list[str]:
    """Overrides of a command's configuration that begin with `word`, by Hydra, and names of configurations.

    Args:
        command: module of the package; for one without a configuration there are none.
        before: the words after the command.
        word: the one to complete.
    """
    if word.startswith("run="):
        return [f"run={name}" for name in names_of_runs() if name.startswith(word.removeprefix("run="))]
    from hydra.core.global_hydra import GlobalHydra
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin

    from fedvssl.config import conf_dir, hydra_for
    from fedvssl.help import NAMED, USUAL

    named = [part for part in before if "=" not in part and not part.startswith("-")]
    names = sorted(path.stem for path in conf_dir().glob("*.yaml"))
    found = [name for name in names if name.startswith(word)] if command in NAMED and "=" not in word else []
    config = named[0] if named and command in NAMED else USUAL.get(command, command)
    if config not in names:
        return found
    with hydra_for(config, []) as (stem, _):
        line = " ".join([*(part for part in before if "=" in part), word])
        return found + DefaultCompletionPlugin(GlobalHydra.instance().config_loader())._query(stem, line)
