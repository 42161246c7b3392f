//! What the appliance must understand before it has an operating system: the kernel command
//! line, the partition table, the dm-verity superblock, which module drives which device, and how
//! often a version may be started without ever serving.
//!
//! Everything here is bytes in, decisions out: no root, no clock, no system call but on the files
//! of a folder that is given. The program `palabre-init` is the thin shell that mounts and
//! executes. The partition table lives here and nowhere else: the updater ([`gpt::Table::store`])
//! uses the same rules that boot reads by.

pub mod cmdline;
pub mod disk;
pub mod failed;
pub mod gpt;
pub mod modules;
pub mod starts;
pub mod variables;
pub mod verity;

#[doc(hidden)]
pub mod mutate;
