"""The system calls that a program may make, and their numbers.

Each is written `name:number on x86-64:number on aarch64`, with a dash where there is none. Whatever is not
named here is refused; `benchmarks/sandbox_cost.py` holds the list against what the references do.
"""

import platform

_X86_64, _AARCH64 = 0, 1
_COLUMN = {"x86_64": _X86_64, "aarch64": _AARCH64, "arm64": _AARCH64}

# files, which paths Landlock and the mounts decide
FILES = """
read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 preadv:295:69 pwritev:296:70
preadv2:327:286 pwritev2:328:287 lseek:8:62 open:2:- openat:257:56 close:3:57 close_range:436:436 stat:4:-
lstat:6:- fstat:5:80 newfstatat:262:79 statx:332:291 access:21:- faccessat:269:48 faccessat2:439:439
readlink:89:- readlinkat:267:78 getdents:78:- getdents64:217:61 statfs:137:43 fstatfs:138:44 mkdir:83:-
mkdirat:258:34 rmdir:84:- unlink:87:- unlinkat:263:35 rename:82:- renameat:264:38 renameat2:316:276
truncate:76:45 ftruncate:77:46 fallocate:285:47 fsync:74:82 fdatasync:75:83 fadvise64:221:223
sendfile:40:71 copy_file_range:326:285 flock:73:32 fcntl:72:25 dup:32:23 dup2:33:- dup3:292:24 pipe:22:-
pipe2:293:59 getcwd:79:17 chdir:80:49 fchdir:81:50 umask:95:166
"""

# waiting, for time and for others
WAITING = """
poll:7:- ppoll:271:73 select:23:- pselect6:270:72 epoll_create:213:- epoll_create1:291:20 epoll_ctl:233:21
epoll_wait:232:- epoll_pwait:281:22 epoll_pwait2:441:441 eventfd:284:- eventfd2:290:19 futex:202:98
futex_waitv:449:449 nanosleep:35:101 clock_nanosleep:230:115 pause:34:- alarm:37:- getitimer:36:102
setitimer:38:103 timerfd_create:283:85 timerfd_settime:286:86 timerfd_gettime:287:87
restart_syscall:219:128 wait4:61:260 waitid:247:95
"""

# memory
MEMORY = """
munmap:11:215 mprotect:10:226 mremap:25:216 madvise:28:233 brk:12:214 mincore:27:232
msync:26:227 membarrier:324:283 get_mempolicy:239:236 mlock:149:228 munlock:150:229
"""

# itself: who it is, its signals, its end
ITSELF = """
exit:60:93 exit_group:231:94 getpid:39:172 getppid:110:173 gettid:186:178 getpgrp:111:- getpgid:121:155
getsid:124:156 getuid:102:174 geteuid:107:175 getgid:104:176 getegid:108:177 getresuid:118:148
getresgid:120:150 getgroups:115:158 set_tid_address:218:96 set_robust_list:273:99 get_robust_list:274:100
rseq:334:293 sched_yield:24:124 sched_getaffinity:204:123 sched_getparam:143:121
sched_getscheduler:145:120 sched_get_priority_min:147:126 sched_get_priority_max:146:125
sched_rr_get_interval:148:127 getpriority:140:141 getrlimit:97:163 getrusage:98:165 times:100:153
capget:125:90 rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigpending:127:136 rt_sigtimedwait:128:137
rt_sigsuspend:130:133 rt_sigreturn:15:139 sigaltstack:131:132
"""

# the clock and the machine
FACTS = """
clock_gettime:228:113 clock_getres:229:114 gettimeofday:96:169 time:201:- sysinfo:99:179 uname:63:160
getcpu:309:168 getrandom:318:278
"""

# what it was given to talk through
CHANNEL = """
recvfrom:45:207 recvmsg:47:212 sendto:44:206 sendmsg:46:211 shutdown:48:210 getsockopt:55:209
getsockname:51:204 getpeername:52:205
"""

# with conditions, see `seccomp`
CONDITIONAL = """
mmap:9:222 clone:56:220 kill:62:129 tkill:200:130 tgkill:234:131 prctl:157:167 prlimit64:302:261 ioctl:16:29
socketpair:53:199 clone3:435:435
"""


def numbers(*groups: str, machine: str | None = None) -> dict[str, int]:
    """Names to numbers on this machine, of the groups given."""
    column = _COLUMN[machine or platform.machine()]
    rows = [entry.split(":") for group in groups for entry in group.split()]
    return {name: int(found[column]) for name, *found in rows if found[column] != "-"}


def is_known(machine: str | None = None) -> bool:
    """Whether the numbers of this machine are known."""
    return (machine or platform.machine()) in _COLUMN
