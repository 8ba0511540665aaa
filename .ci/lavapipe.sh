# Sourced. Offers WebGPU a software adapter, Mesa's lavapipe, where there is none: `find_lavapipe FOLDER` has apt download it
# from the package sources that the machine is configured with, unpacks it into FOLDER, and sets the variables that let the
# Vulkan loader find it. Nothing is installed, and root is not needed. It says why where it cannot; the tests of WebGPU are then
# skipped.

# onnxruntime refuses the drivers of older ones.
readonly LEAST_MESA=23

find_lavapipe() {
  local folder=$1 id codename version packages icd
  if [[ $(uname -sm) != 'Linux x86_64' ]] || ! command -v apt-get apt-cache dpkg-deb >/dev/null; then
    echo 'no lavapipe: it is taken from Debian packages on x86-64 Linux only'
    return 0
  fi
  id=$(. /etc/os-release && echo "${ID:-unknown}")
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  if [[ $id != debian ]]; then
    echo "no lavapipe: it is taken from Debian packages, and this is $id"
    return 0
  fi
  mkdir -p "$folder"/{lists/partial,cache/archives/partial,sources,packages,root}
  # Lists of its own: those of the machine may be missing, as in a container, and are left alone.
  cp /etc/apt/sources.list.d/*.{list,sources} "$folder/sources/" 2>/dev/null
  local -a options=(
    -o "Dir::State::Lists=$folder/lists" -o "Dir::Etc::SourceParts=$folder/sources" -o "Dir::Cache=$folder/cache"
    -o APT::Sandbox::User= -o Acquire::Retries=1 -o Acquire::http::Timeout=20
  )
  if ! update_lists; then return 0; fi
  version=$(newest_mesa)
  if [[ ${version%%.*} -lt $LEAST_MESA ]]; then
    # A stable release may be too old; the machine's own mirror has the backports to it.
    apt-get "${options[@]}" indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $codename" 'Component: main' |
      sort -u | head -1 | sed "s|.*|deb & $codename-backports main|" >"$folder/sources/fr1-backports.list"
    if ! update_lists; then return 0; fi
    version=$(newest_mesa)
  fi
  if [[ ${version%%.*} -lt $LEAST_MESA ]]; then
    echo "no lavapipe: the package sources of this machine have Mesa ${version:-in no version}, and it takes $LEAST_MESA or newer"
    return 0
  fi
  # Where the newest driver is a backport, so may its libraries be.
  local -a wanted=("mesa-vulkan-drivers=$version" libvulkan1)
  if ! packages=$(missing_packages "${wanted[@]}" || missing_packages -t "$codename-backports" "${wanted[@]}"); then
    echo "no lavapipe: apt finds no packages that go together for Mesa $version"
    return 0
  fi
  if [[ -z $packages ]]; then
    echo "lavapipe: Mesa $version is installed"
    return 0
  fi
  # shellcheck disable=SC2086
  if ! (cd "$folder/packages" && timeout 180 apt-get "${options[@]}" -qq download $packages) >"$folder/log" 2>&1; then
    echo "no lavapipe: the packages cannot be had: $(tail -1 "$folder/log")"
    return 0
  fi
  local package
  for package in "$folder"/packages/*.deb; do dpkg-deb -x "$package" "$folder/root"; done
  icd=$(find "$folder/root/usr/share/vulkan/icd.d" -name 'lvp_icd*.json' 2>/dev/null | head -1)
  if [[ -z $icd ]]; then
    echo 'no lavapipe: the package holds no driver of that name'
    return 0
  fi
  export LD_LIBRARY_PATH="$folder/root/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export VK_DRIVER_FILES=$icd VK_ICD_FILENAMES=$icd MESA_SHADER_CACHE_DIR=$folder/shaders
  echo "lavapipe: Mesa $version"
}

# The following see `folder` and `options` of their caller.

update_lists() {
  timeout 90 apt-get "${options[@]}" -qq update >"$folder/log" 2>&1 && return 0
  echo "no lavapipe: the package lists cannot be had: $(tail -1 "$folder/log")"
  return 1
}

newest_mesa() {
  apt-cache "${options[@]}" madison mesa-vulkan-drivers 2>/dev/null | cut -d '|' -f 2 | tr -d ' ' | sort -V | tail -1
}

# What an installation would add, a `name=version` a line.
missing_packages() {
  local plan
  plan=$(apt-get "${options[@]}" --simulate --no-install-recommends install "$@" 2>/dev/null) || return 1
  sed -nE 's/^Inst ([^ ]+) (\[[^]]*\] )?\(([^ ]+) .*/\1=\3/p' <<<"$plan"
}
