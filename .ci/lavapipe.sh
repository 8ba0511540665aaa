# Sourced. Offers WebGPU a software adapter, Mesa's lavapipe, where there is none: `find_lavapipe FOLDER` unpacks Debian's
# packages into FOLDER, without root, and sets the variables that let the Vulkan loader find them. It says why where it
# cannot; the tests of WebGPU are then skipped.

find_lavapipe() {
  local folder=$1 release icd
  if [[ $(uname -sm) != 'Linux x86_64' ]] || ! command -v apt-get dpkg-deb apt-cache >/dev/null; then
    echo 'no lavapipe: it is taken from Debian packages on x86-64 Linux only'
    return 0
  fi
  release=$(. /etc/os-release && echo "${ID:-}:${VERSION_CODENAME:-}")
  if [[ $release != debian:* ]]; then
    echo "no lavapipe: it is taken from Debian packages, and this is $release"
    return 0
  fi
  mkdir -p "$folder"/{lists/partial,cache/archives/partial,packages,root}
  {
    echo "deb http://deb.debian.org/debian ${release#*:} main"
    [[ $release == debian:bookworm ]] && echo 'deb http://deb.debian.org/debian bookworm-backports main'
  } >"$folder/sources.list"
  local -a options=(
    -o "Dir::State::Lists=$folder/lists" -o "Dir::Etc::SourceList=$folder/sources.list" -o Dir::Etc::SourceParts=/nonexistent
    -o "Dir::Cache=$folder/cache" -o APT::Sandbox::User= -o Acquire::Retries=1 -o Acquire::http::Timeout=20
  )
  if ! timeout 90 apt-get "${options[@]}" -qq update >"$folder/log" 2>&1; then
    echo "no lavapipe: the package lists cannot be had: $(tail -1 "$folder/log")"
    return 0
  fi
  # onnxruntime refuses the Mesa 22 of Debian 12; its backports have a newer one.
  local driver=mesa-vulkan-drivers
  [[ $release == debian:bookworm ]] && driver+=/bookworm-backports
  local -a packages=("$driver" libvulkan1)
  # The driver links to these; whatever the machine has already is left out.
  local package
  for package in libllvm15 libdrm2 libdrm-amdgpu1 libelf1 libexpat1 libwayland-client0 libx11-xcb1 libxcb1 libxcb-dri3-0 \
    libxcb-present0 libxcb-randr0 libxcb-shm0 libxcb-sync1 libxcb-xfixes0 libxshmfence1 libz3-4 libedit2 libbsd0 libmd0 \
    libxml2 libicu72 libxau6 libxdmcp6 libffi8 libtinfo6; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' && continue
    apt-cache "${options[@]}" show "$package" >/dev/null 2>&1 && packages+=("$package")
  done
  if ! (cd "$folder/packages" && timeout 180 apt-get "${options[@]}" -qq download "${packages[@]}") >"$folder/log" 2>&1; then
    echo "no lavapipe: the packages cannot be had: $(tail -1 "$folder/log")"
    return 0
  fi
  for package in "$folder"/packages/*.deb; do dpkg-deb -x "$package" "$folder/root"; done
  icd=$(find "$folder/root/usr/share/vulkan/icd.d" -name 'lvp_icd*.json' | head -1)
  if [[ -z $icd ]]; then
    echo 'no lavapipe: the package holds no driver of that name'
    return 0
  fi
  export LD_LIBRARY_PATH="$folder/root/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export VK_DRIVER_FILES=$icd VK_ICD_FILENAMES=$icd MESA_SHADER_CACHE_DIR=$folder/shaders
  echo "lavapipe: Mesa $(dpkg-deb -f "$folder"/packages/mesa-vulkan-drivers_*.deb Version)"
}
