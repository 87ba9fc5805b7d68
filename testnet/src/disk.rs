//! Disks for tests that need a bad one: a disk whose power is cut, and disks that are soon full.
//!
//! Needs Linux, root, and `mount`; [`DiskError::Unavailable`] says what is missing. It does not know what is written. Invariant: what
//! was mounted is unmounted, and its image deleted, when the value is dropped; what a killed process left is swept by the next one.

mod mount;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mount::{Mount, Workplace, run};

/// Why there is no such disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// This machine or this user cannot mount. A test that meets this is [skipped](crate::skip), not passed.
    #[error("no disks to mount here: {why}")]
    Unavailable {
        /// What is missing.
        why: String,
    },
    /// A program refused.
    #[error("{command}: {said}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// What it wrote to stderr.
        said: String,
    },
    /// The system refused something else.
    #[error("{what}")]
    Io {
        /// What was wanted.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// How a [`PowerCut`] is made.
#[derive(Clone, Copy, Debug)]
pub struct PowerCutOptions {
    /// Size of the live disk, in bytes. Must hold all that is written, or the test is one of a full disk.
    pub bytes: u64,
    /// Room for the live disk and its copies, in bytes. Images are sparse and copies share what is equal.
    pub room_bytes: u64,
    /// How often ext4 commits by itself, in whole seconds. `None`: its default of 5 s. A long time makes a missing fsync show at once.
    pub commit: Option<Duration>,
}

impl Default for PowerCutOptions {
    fn default() -> Self {
        Self {
            bytes: 3 << 30,
            room_bytes: 6 << 30,
            commit: None,
        }
    }
}

/// A live ext4 disk whose power can be cut at any moment, as often as wanted, while a program writes to it.
///
/// The live disk is an image on an XFS with reflinks, where copying the image is one atomic step: the copy is what the disk held at
/// that moment, without what the kernel had not sent to it yet.
#[derive(Debug)]
pub struct PowerCut {
    // In this order: what is mounted on top goes first.
    live: Mount,
    room: Mount,
    workplace: Workplace,
    cuts: AtomicU32,
}

impl PowerCut {
    /// Makes and mounts the live disk.
    ///
    /// Errors: [`DiskError::Unavailable`] where the machine has no means for it; otherwise what went wrong, with nothing left behind.
    pub fn create(options: PowerCutOptions) -> Result<Self, DiskError> {
        mount::check_available(&["mkfs.xfs", "mkfs.ext4", "losetup", "mount", "umount"])?;
        let workplace = Workplace::create()?;
        let outer = workplace.image("room.img", options.room_bytes)?;
        run("mkfs.xfs", &["-q", "-f", "-m", "reflink=1"], &[&outer])?;
        let room = workplace.mount("room", &["-o", "loop"], &outer)?;
        let image = room.path().join(LIVE);
        mount::make_image(&image, options.bytes)?;
        // Nothing left to do later, so that nothing but the test writes to the disk.
        run(
            "mkfs.ext4",
            &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            &[&image],
        )?;
        let commit = options
            .commit
            .map_or(String::new(), |commit| format!(",commit={}", commit.as_secs()));
        let live = workplace.mount("live", &["-o", &format!("loop{commit}")], &image)?;
        Ok(Self {
            live,
            room,
            workplace,
            cuts: AtomicU32::new(0),
        })
    }

    /// The folder of the live disk.
    pub fn live(&self) -> &Path {
        self.live.path()
    }

    /// Cuts the power: takes a copy of the disk as it is now, and mounts it as after a restart. The live disk goes on.
    ///
    /// Errors: the copy or its mount failed; a disk that does not mount after the cut is a finding too.
    pub fn cut(&self) -> Result<Cut<'_>, DiskError> {
        let number = self.cuts.fetch_add(1, Ordering::Relaxed);
        let image = self.room.path().join(format!("cut-{number}.img"));
        run(
            "cp",
            &["--reflink=always"],
            &[&self.room.path().join(LIVE), &image],
        )?;
        let image = Image(image);
        let mount = self
            .workplace
            .mount(&format!("cut-{number}"), &["-o", "loop"], &image.0)?;
        Ok(Cut {
            mount,
            _image: image,
            _of: self,
        })
    }
}

/// The image of the live disk, in the room.
const LIVE: &str = "live.img";

/// A disk after a power cut, mounted and writable.
#[derive(Debug)]
pub struct Cut<'a> {
    // In this order: the mount goes before its image, and both before the room.
    mount: Mount,
    _image: Image,
    _of: &'a PowerCut,
}

impl Cut<'_> {
    /// The folder of the disk.
    pub fn path(&self) -> &Path {
        self.mount.path()
    }
}

/// An image file, deleted on drop.
#[derive(Debug)]
struct Image(PathBuf);

impl Drop for Image {
    fn drop(&mut self) {
        // It goes with the room at the latest.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A disk that is soon full, or out of inodes, or not to be written to.
#[derive(Debug)]
pub struct SmallDisk {
    mount: Mount,
    _workplace: Workplace,
}

impl SmallDisk {
    /// A real file system of `bytes`, its own structures included: ext4 on a loop device, with nothing reserved for root.
    ///
    /// Errors: as [`PowerCut::create`]; below 1 MiB or so `mkfs.ext4` refuses.
    pub fn ext4(bytes: u64) -> Result<Self, DiskError> {
        mount::check_available(&["mkfs.ext4", "losetup", "mount", "umount"])?;
        let workplace = Workplace::create()?;
        let image = workplace.image("disk.img", bytes)?;
        run(
            "mkfs.ext4",
            &["-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            &[&image],
        )?;
        let mount = workplace.mount("disk", &["-o", "loop"], &image)?;
        Ok(Self {
            mount,
            _workplace: workplace,
        })
    }

    /// A real file system that makes reflinks: XFS on a loop device of `bytes`.
    ///
    /// Errors: as [`PowerCut::create`]; below 300 MiB `mkfs.xfs` refuses.
    pub fn xfs(bytes: u64) -> Result<Self, DiskError> {
        mount::check_available(&["mkfs.xfs", "losetup", "mount", "umount"])?;
        let workplace = Workplace::create()?;
        let image = workplace.image("disk.img", bytes)?;
        run("mkfs.xfs", &["-q", "-f", "-m", "reflink=1"], &[&image])?;
        let mount = workplace.mount("disk", &["-o", "loop"], &image)?;
        Ok(Self {
            mount,
            _workplace: workplace,
        })
    }

    /// A file system in memory with room for `bytes` of files and `inodes` files and folders, its root included.
    ///
    /// Errors: as [`PowerCut::create`].
    pub fn tmpfs(bytes: u64, inodes: u64) -> Result<Self, DiskError> {
        mount::check_available(&["mount", "umount"])?;
        let workplace = Workplace::create()?;
        let options = format!("size={bytes},nr_inodes={inodes}");
        let mount = workplace.mount("disk", &["-t", "tmpfs", "-o", &options], Path::new("tmpfs"))?;
        Ok(Self {
            mount,
            _workplace: workplace,
        })
    }

    /// The folder of the disk.
    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// Makes the disk refuse every write from now on, or take them again, as a kernel does after an I/O error.
    ///
    /// Errors: a file on it is open for writing.
    pub fn set_read_only(&self, read_only: bool) -> Result<(), DiskError> {
        run(
            "mount",
            &["-o", if read_only { "remount,ro" } else { "remount,rw" }],
            &[self.path()],
        )
    }
}

#[cfg(test)]
mod tests;
