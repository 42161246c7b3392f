//! Which kernel modules a machine needs, from the lists that kmod writes (`modules.alias`,
//! `modules.dep`), and the order to load them in.
//!
//! Source: modules.dep(5), and kmod's matching of aliases (fnmatch, `-` equal to `_`).

use std::collections::{BTreeSet, HashMap};

/// The modules of one kernel.
#[derive(Debug, Default)]
pub struct Modules {
    /// Pattern of a device's modalias, and the module that drives it.
    aliases: Vec<(String, String)>,
    /// Module name to its path and to the names it needs first.
    files: HashMap<String, (String, Vec<String>)>,
}

impl Modules {
    /// Reads the text of `modules.dep` and `modules.alias`. Lines that say nothing are skipped.
    pub fn parse(dep: &str, alias: &str) -> Self {
        let files = dep
            .lines()
            .filter_map(|line| {
                let (path, needs) = line.split_once(':')?;
                let needs = needs.split_ascii_whitespace().map(name_of).collect();
                Some((name_of(path.trim()), (path.trim().to_owned(), needs)))
            })
            .collect();
        let aliases = alias
            .lines()
            .filter_map(|line| {
                let mut words = line.split_ascii_whitespace();
                match (words.next()?, words.next()?, words.next()?, words.next()) {
                    ("alias", pattern, module, None) => Some((pattern.to_owned(), name_of(module))),
                    _ => None,
                }
            })
            .collect();
        Self { aliases, files }
    }

    /// The names of the modules that drive a device with this modalias, in the order of the list.
    pub fn drivers(&self, modalias: &str) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for (pattern, module) in &self.aliases {
            if self.files.contains_key(module)
                && !found.contains(&module.as_str())
                && matches(pattern, modalias)
            {
                found.push(module);
            }
        }
        found
    }

    /// The same modules, of which only those drive a device whose path has one of `parts` in it.
    pub fn narrowed(&self, parts: &[&str]) -> Self {
        let is_meant = |module: &String| {
            let path = self.files.get(module).map(|(path, _)| path);
            path.is_some_and(|path| parts.iter().any(|part| path.contains(part)))
        };
        let aliases = self.aliases.iter();
        Self {
            aliases: aliases.filter(|(_, m)| is_meant(m)).cloned().collect(),
            files: self.files.clone(),
        }
    }

    /// Every module whose name starts with `prefix`, sorted.
    pub fn starting_with(&self, prefix: &str) -> Vec<&str> {
        let prefix = name_of(prefix);
        let mut found: Vec<&str> = self
            .files
            .keys()
            .filter(|name| name.starts_with(&prefix))
            .map(String::as_str)
            .collect();
        found.sort_unstable();
        found
    }

    /// The paths to load for `name`, what it needs first. Empty when there is no such module.
    /// A dependency that is absent, or that needs itself, is passed over: the kernel will say so.
    pub fn load_order(&self, name: &str) -> Vec<&str> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        // Each step is a module to enter, or a path whose dependencies are all in `order`.
        let mut steps = vec![Err(name_of(name))];
        while let Some(step) = steps.pop() {
            match step {
                Ok(path) => order.push(path),
                Err(name) => {
                    let Some((path, needs)) = self.files.get(&name) else {
                        continue;
                    };
                    if seen.insert(name) {
                        steps.push(Ok(path.as_str()));
                        // kmod lists the deepest dependency last.
                        steps.extend(needs.iter().cloned().map(Err));
                    }
                }
            }
        }
        order
    }
}

/// The name of a module from its path or from either spelling of its name.
pub fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split_once(".ko").map_or(file, |(stem, _)| stem);
    stem.replace('-', "_")
}

/// Whether `text` matches the shell pattern: `*`, `?` and `[a-f0]` or `[!a-f]`. In linear space,
/// and in time at most the product of the lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut resume: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            p += 1;
            resume = Some((p, t));
            continue;
        }
        if t == text.len() {
            return p == pattern.len();
        }
        if let Some(after) = one(&pattern[p..], text[t]) {
            p += after;
            t += 1;
            continue;
        }
        match &mut resume {
            Some((back, from)) => {
                *from += 1;
                (p, t) = (*back, *from);
            }
            None => return false,
        }
    }
}

/// How many bytes of `pattern` match the one byte, if they do.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    let dash = |b: u8| if b == b'-' { b'_' } else { b };
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => {
            let close = pattern.iter().skip(2).position(|b| *b == b']')? + 2;
            let (set, negated) = match pattern[1] {
                b'!' | b'^' => (&pattern[2..close], true),
                _ => (&pattern[1..close], false),
            };
            let mut inside = false;
            let mut at = 0;
            while at < set.len() {
                if at + 2 < set.len() && set[at + 1] == b'-' {
                    inside |= (set[at]..=set[at + 2]).contains(&byte);
                    at += 3;
                } else {
                    inside |= set[at] == byte;
                    at += 1;
                }
            }
            (inside != negated).then_some(close + 1)
        }
        literal => (dash(literal) == dash(byte)).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::Seeded;

    const DEP: &str = "\
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/nvme/host/nvme.ko.xz: kernel/drivers/nvme/host/nvme-core.ko.xz
kernel/drivers/nvme/host/nvme-core.ko.xz: kernel/lib/crc64-rocksoft.ko
kernel/fs/a.ko: kernel/fs/b.ko
kernel/fs/b.ko: kernel/fs/a.ko kernel/gone.ko
not a line
";
    const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias virtio:d00000002v* virtio_blk
alias pci:v*d*sv*sd*bc01sc08i02* nvme
alias pci:v*d*sv*sd*bc01sc08i02* nvme
alias usb:v0525pA4A[0-5]d*dc*dsc*dp*ic*isc*ip*in* absent
alias acpi*:PNP0A0[!3]:* a
alias broken
";

    #[test]
    fn a_device_finds_its_driver_and_what_it_needs() {
        let modules = Modules::parse(DEP, ALIAS);
        assert_eq!(modules.drivers("virtio:d00000002v00001AF4"), ["virtio_blk"]);
        assert_eq!(
            modules.drivers("pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02"),
            ["nvme"]
        );
        assert!(modules.drivers("usb:v0525pA4A3d1").is_empty());
        assert_eq!(modules.drivers("acpi:PNP0A08:x"), ["a"]);
        assert!(modules.drivers("acpi:PNP0A03:x").is_empty());
        assert_eq!(
            modules.load_order("virtio-blk"),
            [
                "kernel/drivers/virtio/virtio.ko",
                "kernel/drivers/virtio/virtio_ring.ko",
                "kernel/drivers/block/virtio_blk.ko"
            ]
        );
        assert_eq!(
            modules.load_order("nvme"),
            [
                "kernel/drivers/nvme/host/nvme-core.ko.xz",
                "kernel/drivers/nvme/host/nvme.ko.xz"
            ]
        );
        assert_eq!(
            modules.starting_with("virtio"),
            ["virtio", "virtio_blk", "virtio_ring"]
        );
        assert!(modules.load_order("nothing").is_empty());
    }

    #[test]
    fn only_drivers_from_the_folders_that_are_asked_for_are_found() {
        let modules = Modules::parse(DEP, ALIAS).narrowed(&["/drivers/block/", "/nvme/host/nvme."]);
        assert_eq!(modules.drivers("virtio:d00000002v00001AF4"), ["virtio_blk"]);
        let nvme = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";
        assert_eq!(modules.drivers(nvme), ["nvme"]);
        assert!(modules.drivers("acpi:PNP0A08:x").is_empty());
        // What they need is still known.
        assert_eq!(modules.load_order("virtio_blk").len(), 3);
    }

    #[test]
    fn a_circle_is_loaded_once_each() {
        let modules = Modules::parse(DEP, ALIAS);
        assert_eq!(
            modules.load_order("a"),
            ["kernel/fs/b.ko", "kernel/fs/a.ko"]
        );
    }

    #[test]
    fn patterns_match_like_the_shell() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcdf", false),
            ("a?c", "abc", true),
            ("a-b", "a_b", true),
            ("x[0-9a-f]y", "xcy", true),
            ("x[0-9a-f]y", "xgy", false),
            ("x[!0-9]y", "x5y", false),
            ("x[", "x[", false),
            ("x[]", "x]", false),
            ("**a", "aaaa", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        // The case that is exponential with naive recursion.
        assert!(!matches(&"*a".repeat(50), &"b".repeat(5000)));
    }

    #[test]
    fn damaged_lists_never_panic() {
        let mut seeded = Seeded(11);
        for _ in 0..2_000 {
            let (mut dep, mut alias) = (DEP.as_bytes().to_vec(), ALIAS.as_bytes().to_vec());
            seeded.damage(&mut dep);
            seeded.damage(&mut alias);
            let modules = Modules::parse(
                &String::from_utf8_lossy(&dep),
                &String::from_utf8_lossy(&alias),
            );
            modules.drivers("pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02");
            assert!(modules.load_order("virtio_blk").len() <= 7);
        }
    }
}
