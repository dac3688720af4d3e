//! Users and groups of an image by its own `/etc/passwd` and `/etc/group`: the C library's lookups know only the node's.

/// Who a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user's number.
    pub uid: u32,
    /// The number of the primary group.
    pub gid: u32,
    /// Numbers of supplementary groups.
    pub groups: Vec<u32>,
    /// The home directory, if the image's `/etc/passwd` names one.
    pub home: Option<String>,
}

/// Why an image has no such user.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserError {
    /// The name is not in `/etc/passwd`.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    /// The name is not in `/etc/group`.
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
    /// A number that is too large, and whose it is.
    #[error("{0} of {1} is out of range: the largest is {LARGEST_ID}")]
    Range(u32, String),
}

/// As upstream's runtimes: what is larger is taken for a name. To the kernel the largest number of all means "leave it
/// as it is", which would be root.
const LARGEST_ID: u32 = i32::MAX as u32;

/// A number in the range of users and groups.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().and_then(supplemental_group)
}

/// A group that is given by its number; `None` if it is out of range.
pub fn supplemental_group(number: i64) -> Option<u32> {
    u32::try_from(number).ok().filter(|n| *n <= LARGEST_ID)
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd(text: &str) -> impl Iterator<Item = Passwd<'_>> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, ..] = fields.as_slice() else {
            return None;
        };
        let home = fields.get(5).copied().unwrap_or_default();
        Some(Passwd {
            name,
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home,
        })
    })
}

fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// `user` is `name`, `uid`, or either with `:group`. A number is a number: a user who has it for a name is another one.
/// `merge` adds the groups that list the user.
pub fn identify(user: &str, passwd_text: &str, group_text: &str, merge: bool) -> Result<Identity, UserError> {
    let (user, group) = user.split_once(':').map_or((user, None), |(u, g)| (u, Some(g)));
    let user = if user.is_empty() { "0" } else { user };
    let number = id(user);
    let entry = match number {
        Some(uid) => passwd(passwd_text).find(|p| p.uid == uid),
        None => passwd(passwd_text).find(|p| p.name == user),
    };
    let mut identity = match (&entry, number) {
        (Some(p), _) => Identity {
            uid: p.uid,
            gid: p.gid,
            groups: Vec::new(),
            home: Some(p.home.to_owned()),
        },
        (None, Some(uid)) => Identity {
            uid,
            ..Identity::default()
        },
        (None, None) => return Err(UserError::User(user.to_owned())),
    };
    if let Some(group) = group.filter(|g| !g.is_empty()) {
        identity.gid = match id(group) {
            Some(gid) => gid,
            None => groups(group_text)
                .find(|(name, _, _)| *name == group)
                .map(|(_, gid, _)| gid)
                .ok_or_else(|| UserError::Group(group.to_owned()))?,
        };
    }
    if let (true, Some(p)) = (merge, &entry) {
        let lists = |members: &str| members.split(',').any(|m| m == p.name);
        identity.groups = groups(group_text)
            .filter(|(_, _, m)| lists(m))
            .map(|(_, gid, _)| gid)
            .collect();
    }
    for (what, number) in [("user", identity.uid), ("group", identity.gid)]
        .into_iter()
        .chain(identity.groups.iter().map(|gid| ("group", *gid)))
    {
        if number > LARGEST_ID {
            return Err(UserError::Range(number, format!("{what} for {user:?}")));
        }
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/false\nbroken\n";
        let group = "web:x:34:\nlog:x:4:other,web\n";
        let id = |user: &str, merge| identify(user, passwd, group, merge);
        let web = Identity {
            uid: 33,
            gid: 34,
            groups: vec![4],
            home: Some("/srv".into()),
        };
        assert_eq!(id("web", true), Ok(web.clone()));
        assert_eq!(id("33", true), Ok(web.clone()));
        assert_eq!(
            id("web:log", false),
            Ok(Identity {
                gid: 4,
                groups: vec![],
                ..web
            })
        );
        assert_eq!(
            id("1000", true),
            Ok(Identity {
                uid: 1000,
                ..Identity::default()
            })
        );
        assert_eq!(
            id("1000:2000", true),
            Ok(Identity {
                uid: 1000,
                gid: 2000,
                ..Identity::default()
            })
        );
        assert_eq!(id("nobody", true), Err(UserError::User("nobody".into())));
        assert_eq!(id("web:none", true), Err(UserError::Group("none".into())));
        assert_eq!(id("", true).map(|i| (i.uid, i.home)), Ok((0, Some("/root".into()))));
    }

    #[test]
    fn a_number_is_never_a_name_and_a_name_never_root_by_overflow() {
        let passwd = "1000:x:0:0::/:\n4294967295:x:7:8::/:\nminus:x:4294967295:0::/:\nwide:x:9:4294967295::/:\n";
        let group = "2000:x:0:\nhuge:x:4294967295:\nmore:x:4294967294:seven\n";
        let id = |user: &str| identify(user, passwd, group, true).map(|i| (i.uid, i.gid));
        assert_eq!(id("1000"), Ok((1000, 0)));
        assert_eq!(id("5:2000"), Ok((5, 2000)));
        // Beyond the range it is a name, here of a user who exists.
        assert_eq!(id("4294967295"), Ok((7, 8)));
        for missing in ["2147483648", "-1", "4294967296", "99999999999999999999"] {
            assert_eq!(id(missing), Err(UserError::User(missing.into())));
        }
        assert_eq!(id("5:4294967295"), Err(UserError::Group("4294967295".into())));
        for wrong in ["minus", "wide", "5:huge"] {
            assert!(matches!(id(wrong), Err(UserError::Range(..))), "{wrong}");
        }
    }
}
