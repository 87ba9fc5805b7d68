//! The system calls that computing needs, and the filter that leaves nothing else. Two filters, of which the stricter one decides:
//! what libraries ask now and then without needing it (files, mostly) is told that it is not permitted; anything else that is
//! not on the list ends the process at once, by `SIGSYS`.

use std::{collections::BTreeMap, io};

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// What computing, with threads that run already, needs: reading and writing what is open, memory, waiting, time, ending.
const NEEDED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_ppoll,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// What libraries try and can do without.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
];

/// Closes all descriptors but stdin, stdout and stderr.
pub(super) fn close_inherited() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    #[expect(
        unsafe_code,
        reason = "no safe call closes what nobody owns; it is the first thing the process does, when it has opened nothing"
    )]
    // SAFETY: the call touches no memory, and nothing in this process owns a descriptor above 2 yet.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) };
    match closed {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Filters the system calls of all threads, from now on.
pub(super) fn filter() -> Result<(), seccompiler::Error> {
    let (refuse, allow) = programs()?;
    // The second forbids to set more filters: the order matters.
    seccompiler::apply_filter_all_threads(&refuse)?;
    seccompiler::apply_filter_all_threads(&allow)
}

fn programs() -> Result<(BpfProgram, BpfProgram), BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let not_permitted = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let mut refused: BTreeMap<_, _> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    // What setting the second filter begins with, and what takes rights away.
    let no_more_rights = libc::PR_SET_NO_NEW_PRIVS.unsigned_abs().into();
    let other = (0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, no_more_rights);
    refused.insert(libc::SYS_prctl, vec![rule(other)?]);
    let refuse = SeccompFilter::new(refused, SeccompAction::Allow, not_permitted, arch)?;
    let allow = SeccompFilter::new(allowed()?, SeccompAction::KillProcess, SeccompAction::Allow, arch)?;
    Ok((refuse.try_into()?, allow.try_into()?))
}

fn allowed() -> Result<BTreeMap<libc::c_long, Vec<SeccompRule>>, BackendError> {
    let listed = NEEDED.iter().chain(REFUSED);
    let mut allowed: BTreeMap<_, _> = listed.map(|call| (*call, Vec::new())).collect();
    // Memory is never run: neither made so that it can be, nor changed to it.
    let exec = libc::PROT_EXEC.unsigned_abs().into();
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let not_run = (2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(exec), 0);
        allowed.insert(call, vec![rule(not_run)?]);
    }
    // A process ends itself by a signal when it aborts, but no other one.
    let own = std::process::id().into();
    let itself = (0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, own);
    allowed.insert(libc::SYS_tgkill, vec![rule(itself)?]);
    Ok(allowed)
}

/// A rule about one argument of a call: which, how long, how compared, with what.
fn rule(condition: (u8, SeccompCmpArgLen, SeccompCmpOp, u64)) -> Result<SeccompRule, BackendError> {
    let (argument, len, how, value) = condition;
    SeccompRule::new(vec![SeccompCondition::new(argument, len, how, value)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_out_is_on_no_list() {
        let allowed = allowed().unwrap();
        let reaching = [
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_sendto,
            libc::SYS_sendmsg,
            libc::SYS_bind,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_kill,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_seccomp,
            libc::SYS_io_uring_setup,
            libc::SYS_bpf,
            libc::SYS_memfd_create,
            libc::SYS_unlinkat,
            libc::SYS_renameat2,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_shmget,
            libc::SYS_userfaultfd,
        ];
        for call in reaching {
            assert!(!allowed.contains_key(&call), "{call}");
        }
        assert!(!NEEDED.iter().any(|call| REFUSED.contains(call)));
    }

    #[test]
    fn both_filters_compile_for_this_machine() {
        let (refuse, allow) = programs().unwrap();
        // Linux takes programs of at most 4,096 steps.
        assert!((1..4_096).contains(&refuse.len()) && (1..4_096).contains(&allow.len()));
    }
}
