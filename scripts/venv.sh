# Sourced by scripts/quickstart and scripts/test: one way to make .venv.

# ensure_venv SPEC: .venv exists and has SPEC (`.` or `.[test]`) installed, editable.
# Installs again only when pyproject.toml or SPEC changed since the last time.
ensure_venv() {
    local spec="$1" python="${PYTHON:-python3}" stamp wanted
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        echo "autotune needs Python 3.10 or later; $python is older. Set PYTHON=/path/to/python3." >&2
        exit 2
    }
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    stamp=".venv/.autotune-$(printf '%s' "$spec" | tr -cd 'a-z')"
    wanted="$(cksum < pyproject.toml)"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "Installing autotune into .venv ..." >&2
        case "$spec" in
            *test*) .venv/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 ;;
        esac
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable "$spec"
        printf '%s' "$wanted" > "$stamp"
    fi
}
