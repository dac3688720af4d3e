package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"
)

// What a container can see of itself, by parts.
var parts = map[string]func() any{
	"args":       func() any { return os.Args },
	"env":        environment,
	"folder":     func() any { folder, err := os.Getwd(); return []string{folder, fmt.Sprint(err)} },
	"ids":        ids,
	"status":     status,
	"limits":     func() any { return lines("/proc/self/limits") },
	"mounts":     mounts,
	"devices":    func() any { return tree("/dev") },
	"cgroup":     cgroup,
	"namespaces": namespaces,
	"processes":  processes,
	"files":      files,
	"network":    network,
	"sysctls":    sysctls,
	"terminal":   terminal,
	"root":       root,
	"oom":        func() any { return lines("/proc/self/oom_score_adj") },
	"names":      names,
	"masked":     masked,
}

func report(which string) {
	chosen := strings.Split(which, ",")
	if which == "" {
		chosen = nil
		for part := range parts {
			chosen = append(chosen, part)
		}
		sort.Strings(chosen)
	}
	for _, part := range chosen {
		tell(part, parts[part]())
	}
}

func lines(path string) []string {
	content, err := os.ReadFile(path)
	if err != nil {
		return []string{errno(err)}
	}
	return strings.Split(strings.TrimRight(string(content), "\n"), "\n")
}

// as the process was started with it, not as a library read it
func environment() any {
	content, _ := os.ReadFile("/proc/self/environ")
	list := strings.Split(strings.TrimRight(string(content), "\x00"), "\x00")
	sort.Strings(list)
	return list
}

func ids() any {
	groups, _ := os.Getgroups()
	slices.Sort(groups)
	mask := syscall.Umask(0)
	syscall.Umask(mask)
	session, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	return map[string]any{"uid": os.Getuid(), "gid": os.Getgid(), "groups": groups, "umask": fmt.Sprintf("%04o", mask), "pid": os.Getpid(), "session": session}
}

func status() any {
	made := map[string]string{}
	for _, line := range lines("/proc/self/status") {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "SigIgn", "Cpus_allowed_list", "Mems_allowed_list":
			made[name] = strings.TrimSpace(value)
		}
	}
	return made
}

// mount point: type, root, options, propagation
func mounts() any {
	made := map[string]any{}
	for _, line := range lines("/proc/self/mountinfo") {
		fields := strings.Fields(line)
		end := slices.Index(fields, "-")
		if end < 6 || len(fields) < end+4 {
			continue
		}
		var propagation []string
		for _, field := range fields[6:end] {
			propagation = append(propagation, strings.SplitN(field, ":", 2)[0])
		}
		own, of := strings.Split(fields[5], ","), strings.Split(fields[end+3], ",")
		sort.Strings(own)
		sort.Strings(of)
		made[fields[4]] = map[string]any{"type": fields[end+1], "root": fields[3], "options": own, "super": of, "propagation": propagation}
	}
	return made
}

func tree(folder string) any {
	made := map[string]any{}
	filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, folder)
		if strings.HasPrefix(path, "/dev/pts/") || strings.HasPrefix(path, "/dev/mqueue/") || len(made) > 300 {
			return nil
		}
		info, failed := os.Lstat(path)
		if failed != nil {
			made[name] = errno(failed)
			return nil
		}
		stat := info.Sys().(*syscall.Stat_t)
		about := fmt.Sprintf("%s %d:%d", info.Mode(), stat.Uid, stat.Gid)
		switch {
		case err != nil:
			about += " " + errno(err)
		case info.Mode()&os.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			about += " -> " + target
		case info.Mode()&os.ModeDevice != 0:
			about += fmt.Sprintf(" %d/%d", stat.Rdev>>8&0xfff, stat.Rdev&0xff|stat.Rdev>>12&0xfff00)
		case info.Mode().IsRegular():
			content, failed := os.ReadFile(path)
			if failed != nil {
				about += " " + errno(failed)
			} else if len(content) > 200 {
				about += fmt.Sprintf(" %d bytes", len(content))
			} else {
				about += fmt.Sprintf(" %q", content)
			}
		}
		made[name] = about
		return nil
	})
	return made
}

func cgroup() any {
	made := map[string]any{"of": lines("/proc/self/cgroup")}
	for _, pattern := range []string{
		"memory/memory.limit_in_bytes", "memory/memory.soft_limit_in_bytes", "memory/memory.memsw.limit_in_bytes", "memory/memory.swappiness",
		"cpu/cpu.shares", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us", "cpuset/cpuset.cpus", "cpuset/cpuset.mems", "pids/pids.max",
		"memory.max", "memory.min", "memory.high", "memory.low", "memory.swap.max", "memory.oom.group", "cpu.max", "cpu.weight", "pids.max", "cpuset.cpus",
		"hugetlb/hugetlb.2MB.limit_in_bytes", "devices/devices.list",
	} {
		if content, err := os.ReadFile("/sys/fs/cgroup/" + pattern); err == nil {
			list := strings.Split(strings.TrimSpace(string(content)), "\n")
			sort.Strings(list)
			made[pattern] = list
		}
	}
	return made
}

func namespaces() any {
	made := map[string]string{}
	for _, name := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		target, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			target = errno(err)
		}
		made[name] = target
	}
	return made
}

// the programs of all processes there are
func processes() any {
	made := []string{}
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range found {
		content, err := os.ReadFile(path)
		if err == nil {
			made = append(made, string(bytes.SplitN(content, []byte{0}, 2)[0]))
		}
	}
	if len(made) > 12 {
		return "many"
	}
	sort.Strings(made)
	return made
}

func files() any {
	made := map[string]any{}
	for _, path := range []string{"/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/dev/termination-log"} {
		made[path] = map[string]any{"is": tree(path), "lines": lines(path)}
	}
	return made
}

func network() any {
	made := map[string]any{}
	interfaces, err := net.Interfaces()
	if err != nil {
		return err.Error()
	}
	for _, one := range interfaces {
		addresses, _ := one.Addrs()
		list := []string{}
		for _, address := range addresses {
			list = append(list, address.String())
		}
		sort.Strings(list)
		made[one.Name] = []any{one.Flags.String(), one.MTU, list}
	}
	return made
}

func sysctls() any {
	made := map[string]any{}
	for _, name := range []string{
		"net/ipv4/ip_unprivileged_port_start", "net/ipv4/ping_group_range", "net/ipv4/ip_forward", "net/ipv4/tcp_syncookies", "net/ipv4/ip_local_port_range",
		"net/ipv4/tcp_keepalive_time", "net/ipv4/tcp_fin_timeout", "net/core/somaxconn", "kernel/shm_rmid_forced", "kernel/msgmax", "kernel/shmmax", "kernel/sem",
		"net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/eth0/accept_dad", "kernel/hostname", "kernel/domainname", "vm/overcommit_memory",
	} {
		made[name] = lines("/proc/sys/" + name)
	}
	return made
}

func terminal() any {
	made := []string{}
	for descriptor := range 3 {
		var stat syscall.Stat_t
		if err := syscall.Fstat(descriptor, &stat); err != nil {
			made = append(made, errno(err))
			continue
		}
		target, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", descriptor))
		made = append(made, fmt.Sprintf("%o %s", stat.Mode&syscall.S_IFMT, strings.SplitN(target, "[", 2)[0]))
	}
	more, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range more {
		target, _ := os.Readlink("/proc/self/fd/" + entry.Name())
		if !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/proc/") && !strings.HasPrefix(target, "/sys/fs/cgroup") && len(entry.Name()) < 3 && entry.Name() > "2" && target != "" {
			made = append(made, entry.Name()+" "+strings.SplitN(target, "[", 2)[0])
		}
	}
	return made
}

// what is in the root, and what can be written
func root() any {
	made := map[string]any{}
	entries, _ := os.ReadDir("/")
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue
		}
		stat := info.Sys().(*syscall.Stat_t)
		made["/"+entry.Name()] = fmt.Sprintf("%s %d:%d", info.Mode(), stat.Uid, stat.Gid)
	}
	for _, folder := range []string{"/", "/tmp", "/dev/shm", "/proc/sys/kernel", "/sys/fs/cgroup", "/etc", "/run"} {
		err := os.WriteFile(folder+"/.tried", nil, 0o600)
		os.Remove(folder + "/.tried")
		made["write "+folder] = errno(err)
	}
	return made
}

func names() any {
	var names syscall.Utsname
	syscall.Uname(&names)
	text := func(field [65]int8) string {
		made := []byte{}
		for _, letter := range field {
			if letter == 0 {
				break
			}
			made = append(made, byte(letter))
		}
		return string(made)
	}
	return []string{text(names.Nodename), text(names.Domainname)}
}

func masked() any {
	made := map[string]any{}
	for _, path := range []string{
		"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
		"/proc/interrupts", "/sys/firmware", "/sys/devices/virtual/powercap", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
	} {
		var stat syscall.Stat_t
		if err := syscall.Stat(path, &stat); err != nil {
			made[path] = errno(err)
			continue
		}
		file, err := os.OpenFile(path, os.O_RDONLY, 0)
		state := errno(err)
		if err == nil {
			entries, _ := file.ReadDir(-1)
			state = fmt.Sprintf("%o %v", stat.Mode, len(entries) > 0)
			file.Close()
		}
		if stat.Mode&syscall.S_IFMT == syscall.S_IFREG {
			writable, err := os.OpenFile(path, os.O_WRONLY, 0)
			state += " " + errno(err)
			if err == nil {
				writable.Close()
			}
		}
		made[path] = state
	}
	return made
}
