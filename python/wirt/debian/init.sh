#!/bin/busybox sh
# The first process of `wirt run debian`: finds the devices, then mounts root= or gives a shell.

export PATH=/bin HOME=/root TERM="${TERM:-linux}"
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /run /tmp
mount -t devpts devpts /dev/pts

# The console named last on the command line may be virtio-console, which needs its bus first: until then
# /dev/console cannot be opened and this script has no output.
modprobe -q virtio_mmio
modprobe -q -a $(cat /sys/bus/virtio/devices/*/modalias /sys/bus/pci/devices/*/modalias 2>/dev/null)
[ -d /sys/module/virtio_input ] && modprobe -q evdev
[ -d /sys/module/libata ] || [ -d /sys/module/nvme ] && modprobe -q sd_mod
(: </dev/console) 2>/dev/null && exec </dev/console >/dev/console 2>&1

option() {
    for word in $(cat /proc/cmdline); do
        case "$word" in "$1"=*) echo "${word#*=}"; return;; esac
    done
}

root=$(option root)
if [ -n "$root" ]; then
    # Disks appear when their driver has probed them, which is not at once.
    tries=0
    while device=$(case "$root" in UUID=* | LABEL=*) findfs "$root" 2>/dev/null;; *) echo "$root";; esac)
          [ ! -b "$device" ] && [ $tries -lt 300 ]; do
        tries=$((tries + 1))
        usleep 100000
    done
    mkdir -p /newroot
    type=$(option rootfstype)
    # ext4 is a module that nothing else asks for.
    modprobe -q "${type:-ext4}"
    case " $(cat /proc/cmdline) " in *" rw "*) mode=rw;; *) mode=ro;; esac
    if mount -t "${type:-ext4}" -o "$mode" "$device" /newroot; then
        init=$(option init)
        for place in dev proc sys; do mount --move /$place /newroot/$place; done
        exec switch_root /newroot "${init:-/sbin/init}"
    fi
    echo "init: cannot mount root=$root; here is a shell instead"
fi

hostname wirt
ip link set lo up 2>/dev/null
echo
echo "Linux $(uname -r) on $(grep -c ^processor /proc/cpuinfo) hart(s), $(grep MemTotal /proc/meminfo | tr -s ' ' | cut -d' ' -f2,3)"
echo "Disks: $(ls /sys/block | grep -E '^(vd|sd|nvme)' | tr '\n' ' ') Networks: $(ls /sys/class/net | tr '\n' ' ')"
echo "poweroff ends the machine."
echo

# poweroff and reboot ask process 1 by signal; `wait` lets it hear them.
trap 'poweroff -f' USR1 USR2
trap 'reboot -f' TERM

# A shell with job control and Ctrl-C wants the real terminal behind /dev/console as its controlling one.
shell() {
    while :; do
        setsid sh -c "exec sh -l </dev/$1 >/dev/$1 2>&1" &
        wait $!
    done
}

terminal=$(tr ' ' '\n' </sys/class/tty/console/active | tail -n 1)
# A display with a keyboard has a shell as well; tty0 is whichever of its terminals is in front.
if [ "$terminal" = tty0 ]; then
    terminal=tty1
elif [ -e /sys/class/graphics/fb0 ] && [ -d /sys/module/virtio_input ]; then
    shell tty1 &
fi
shell "${terminal:-console}"
