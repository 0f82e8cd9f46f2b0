# Makes the namespaces that this runs in a small machine, and systemd its init. What is not of these namespaces can
# only be read.
set -e
if [ -n "$OWN_ROOT" ]; then
    # Written to is a layer above the machine's own files, which goes away with all this. Of units there are the targets
    # that every service wants, and what is installed. /mnt/proc shows the machine's processes by their real pids.
    mount -t tmpfs -o mode=755 tmpfs /mnt
    mkdir /mnt/upper /mnt/work /mnt/root
    mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
    cd /mnt/root
    for dir in dev sys; do mount --rbind "/$dir" "$dir"; done
    mount --move /proc proc
    mkdir -p mnt/proc
    mount --rbind /proc mnt/proc
    pivot_root . media
    umount -l /media
    mount -t tmpfs -o mode=755 tmpfs /usr/lib/systemd/system
    for target in sysinit basic multi-user shutdown; do
        printf '[Unit]\nDefaultDependencies=no\n' > "/usr/lib/systemd/system/$target.target"
    done
fi
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /etc/systemd
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir /run/dev
for device in null zero full random urandom ${OWN_ROOT:+kmsg}; do
    touch "/run/dev/$device"
    mount --bind "/dev/$device" "/run/dev/$device"
done
mount --rbind /run/dev /dev
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
if [ -e /proc/sysrq-trigger ]; then mount --bind /dev/null /proc/sysrq-trigger; fi
[ -n "$OWN_ROOT" ] || mount -o remount,bind,ro /

mkdir -p /etc/systemd/system
printf '[Unit]\nDefaultDependencies=no\n' > /etc/systemd/system/nothing.target
# Its own journal, for whoever starts it. Of the machine's own log and its audit it is to have nothing.
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=\n' > /etc/systemd/journald.conf
cat > /etc/systemd/system/systemd-journald.socket <<UNIT
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/systemd/journal/stdout
ListenDatagram=/run/systemd/journal/socket
SocketMode=0666
PassCredentials=yes
UNIT
cat > /etc/systemd/system/systemd-journald.service <<UNIT
[Unit]
DefaultDependencies=no
Requires=systemd-journald.socket
[Service]
Type=notify
ExecStart=/lib/systemd/systemd-journald
UNIT
# Its path says which unit files there are: none of this machine's own.
exec env -i container=killtrace-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    SYSTEMD_UNIT_PATH="/etc/systemd/system${OWN_ROOT:+:/usr/lib/systemd/system}" SYSTEMD_GENERATOR_PATH=/nonexistent \
    /lib/systemd/systemd --system --unit=nothing.target --log-target=journal --show-status=no
