# Set-up that scripts/quickstart.sh, scripts/test.sh and .ci/run share: cargo, a C linker and a Vulkan driver.
# shellcheck shell=sh
# Sourced, never run. Plain POSIX sh, because Alpine has no bash. Expects `root`, the top folder of the clone; reads and sets `assume_yes`.
#
# Nothing is installed where nothing is missing, so running it again is free. Exit codes are the command's own:
# 2 for a wrong flag, 3 where the machine lacks something that could not be installed.

assume_yes=${assume_yes:-no}
: "${root:?set root to the top folder of the clone before sourcing this}"

say() { printf '%s\n' "$*"; }

die() {
    code=$1
    shift
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit "$code"
}

have() { command -v "$1" >/dev/null 2>&1; }

# ------------------------------------------------------------------------------------------------------------------- who builds

# Under `sudo` in a clone that belongs to the calling user, the build and the run folders should stay that user's, and so should
# the toolchain. Set-up runs as root; everything after it goes through this function.
as_owner() {
    if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ] && [ "$(owner_of "$root")" = "$SUDO_USER" ]; then
        kept=GANYMEDE_DATA,GANYMEDE_TEST_GPU,GANYMEDE_TEST_ADAPTER,RUSTDOCFLAGS,CARGO_TARGET_DIR,VK_DRIVER_FILES,VK_ICD_FILENAMES
        sudo -H -u "$SUDO_USER" --preserve-env="$kept" env "PATH=$PATH" "$@"
    else
        "$@"
    fi
}

owner_of() {
    # The third column of `ls -ld` is the one spelling that GNU, BSD and busybox share.
    # shellcheck disable=SC2012
    ls -ld "$1" | awk '{ print $3 }'
}

# Puts cargo on PATH. A script cannot choose a toolchain for somebody, so a missing one is explained and not installed.
need_cargo() {
    if ! have cargo; then
        sudo_home=
        if [ -n "${SUDO_USER:-}" ]; then
            sudo_home=$(awk -F: -v user="$SUDO_USER" '$1 == user { print $6 }' /etc/passwd)
        fi
        for bin in "${CARGO_HOME:-${HOME:-/root}/.cargo}/bin" "${sudo_home:-/nonexistent}/.cargo/bin" /usr/local/cargo/bin; do
            if [ -x "$bin/cargo" ]; then
                PATH=$bin:$PATH
                export PATH
                break
            fi
        done
    fi
    have cargo || die 3 "cargo was not found. Install Rust from https://rustup.rs and run this again in a new terminal:
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"

    # An old cargo stops at the edition with a message that does not say what to do.
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")
    found=$(cd "$root" && as_owner rustc --version | awk '{ print $2 }')
    [ -n "$found" ] || die 3 "cargo was found, but 'rustc --version' does not run. Install a toolchain: rustup default stable"
    awk -v found="$found" -v wanted="$wanted" 'BEGIN {
        split(found, f, "."); split(wanted, w, ".")
        exit !(f[1] + 0 > w[1] + 0 || (f[1] + 0 == w[1] + 0 && f[2] + 0 >= w[2] + 0))
    }' || die 3 "Rust $found is too old: $wanted or newer is needed. Update it: rustup update stable"
}

# ---------------------------------------------------------------------------------------------------------------- package managers

package_manager() {
    for manager in apt-get dnf pacman apk; do
        if have "$manager"; then
            printf '%s' "$manager"
            return
        fi
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die 3 "root is needed for: $*
Run that as root, or install sudo, and run this again."
    fi
}

# install_packages WHAT PACKAGE...: says what and why, asks on a terminal unless --yes was given, installs.
install_packages() {
    what=$1
    shift
    manager=$(package_manager)
    say "$what is missing; installing with $manager: $*"
    if [ "$assume_yes" = no ] && [ -t 0 ]; then
        printf 'Go on? [Y/n] '
        read -r answer || answer=n
        case $answer in
            '' | [Yy] | [Yy][Ee][Ss]) ;;
            *) die 3 "stopped: $what is needed. Install it yourself ($*) and run this again." ;;
        esac
    fi
    case $manager in
        apt-get)
            as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq || say "apt-get update failed; trying with the lists that are there"
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
            ;;
        dnf) as_root dnf install -y -q "$@" ;;
        # A fresh container has no package list yet; only then is one fetched.
        pacman) as_root pacman -S --needed --noconfirm "$@" || as_root pacman -Sy --needed --noconfirm "$@" ;;
        apk) as_root apk add --no-cache "$@" ;;
    esac || die 3 "$manager could not install $*; its message is above."
}

# -------------------------------------------------------------------------------------------------------------------- C linker

# rustc calls `cc` to link.
ensure_linker() {
    [ "$(uname -s)" = Linux ] || return 0
    if have cc; then
        return 0
    fi
    case $(package_manager) in
        apt-get) install_packages "a C linker (cc)" gcc libc6-dev ;;
        dnf) install_packages "a C linker (cc)" gcc ;;
        pacman) install_packages "a C linker (cc)" gcc ;;
        apk) install_packages "a C linker (cc)" build-base ;;
        *) die 3 "a C linker (cc) is missing and none of apt-get, dnf, pacman, apk was found. Install gcc or clang and run this again." ;;
    esac
}

# ------------------------------------------------------------------------------------------------------------------- Vulkan driver

have_loader() {
    for ldconfig in ldconfig /sbin/ldconfig; do
        if have "$ldconfig"; then
            case $("$ldconfig" -p 2>/dev/null) in
                *libvulkan.so.1*) return 0 ;;
            esac
        fi
    done
    # musl's ldconfig lists nothing, and Nix has none.
    for loader in /lib/libvulkan.so.1 /usr/lib/libvulkan.so.1 /usr/lib64/libvulkan.so.1 /usr/local/lib/libvulkan.so.1 \
        /usr/lib/*-linux-*/libvulkan.so.1; do
        if [ -e "$loader" ]; then
            return 0
        fi
    done
    old_ifs=$IFS
    IFS=:
    for folder in ${LD_LIBRARY_PATH:-}; do
        if [ -n "$folder" ] && [ -e "$folder/libvulkan.so.1" ]; then
            IFS=$old_ifs
            return 0
        fi
    done
    IFS=$old_ifs
    return 1
}

# Prints the driver manifests the Vulkan loader would read, one a line.
driver_manifests() {
    chosen=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}
    folders="${XDG_CONFIG_HOME:-${HOME:-/root}/.config}:${XDG_CONFIG_DIRS:-/etc/xdg}:/usr/local/etc:/etc"
    folders="$folders:${XDG_DATA_HOME:-${HOME:-/root}/.local/share}:${XDG_DATA_DIRS:-/usr/local/share:/usr/share}:/run/opengl-driver/share"
    old_ifs=$IFS
    IFS=:
    if [ -n "$chosen" ]; then
        for entry in $chosen; do
            if [ -d "$entry" ]; then
                for manifest in "$entry"/*.json; do
                    [ ! -f "$manifest" ] || printf '%s\n' "$manifest"
                done
            elif [ -f "$entry" ]; then
                printf '%s\n' "$entry"
            fi
        done
    else
        for folder in $folders; do
            for manifest in "$folder"/vulkan/icd.d/*.json; do
                [ ! -f "$manifest" ] || printf '%s\n' "$manifest"
            done
        done
    fi
    IFS=$old_ifs
}

# A GPU that a hardware driver could open: a DRM render node, NVIDIA's own node, WSL's, or a phone's.
have_gpu_node() {
    for node in /dev/dri/renderD* /dev/nvidiactl /dev/dxg /dev/kgsl-3d0 /dev/mali0; do
        if [ -e "$node" ]; then
            return 0
        fi
    done
    return 1
}

# True where some driver can be expected to offer an adapter: a software one always, a hardware one only beside a GPU's device node
# (distributions install the manifests of every vendor at once, and containers carry them without the GPU).
have_driver() {
    have_software_driver || { [ -n "$(driver_manifests)" ] && have_gpu_node; }
}

have_software_driver() {
    case $(driver_manifests) in
        */lvp_*.json* | *swiftshader*.json*) return 0 ;;
        *) return 1 ;;
    esac
}

# Vulkan is needed on Linux and the BSDs; macOS (Metal) and Windows (DX12) bring what is needed.
needs_vulkan() {
    case $(uname -s) in
        Darwin | MINGW* | MSYS* | CYGWIN*) return 1 ;;
        *) return 0 ;;
    esac
}

# Installs Mesa's software driver (lavapipe) and the Vulkan loader.
install_software_driver() {
    what="a Vulkan driver"
    case $(package_manager) in
        apt-get) install_packages "$what" mesa-vulkan-drivers libvulkan1 ;;
        dnf) install_packages "$what" mesa-vulkan-drivers vulkan-loader ;;
        pacman) install_packages "$what" vulkan-swrast vulkan-icd-loader ;;
        apk) install_packages "$what" mesa-vulkan-swrast vulkan-loader ;;
        *) die 3 "no Vulkan driver was found, and none of apt-get, dnf, pacman, apk either. Install your GPU's Vulkan driver, or Mesa's
software driver (lavapipe) and the Vulkan loader (libvulkan.so.1), and run this again." ;;
    esac
    say "Installed Mesa's software Vulkan driver (lavapipe). It runs on the CPU; a GPU with its own driver is used instead once there is one."
}

ensure_vulkan() {
    needs_vulkan || return 0
    if have_loader && have_driver; then
        return 0
    fi
    install_software_driver
    have_loader || die 3 "libvulkan.so.1 is still not found after the installation."
    have_driver || die 3 "no usable Vulkan driver is found after the installation. VK_DRIVER_FILES is '${VK_DRIVER_FILES:-}', VK_ICD_FILENAMES is
'${VK_ICD_FILENAMES:-}'; if either is set, unset it and run this again."
}

# Everything a build needs, and the driver that a run is expected to need.
set_up() {
    need_cargo
    ensure_linker
    ensure_vulkan
}

# ensure_adapter CARGO FLAGS...: builds, and asks the program itself. A hardware driver beside another vendor's GPU offers no adapter.
ensure_adapter() {
    status=0
    answer=$(as_owner cargo run "$@" --quiet -- devices 2>&1) || status=$?
    if [ "$status" = 3 ] && needs_vulkan && ! have_software_driver; then
        say "The installed Vulkan drivers offer no adapter."
        install_software_driver
    elif [ "$status" != 0 ]; then
        printf '%s\n' "$answer" >&2
        exit "$status"
    fi
}
