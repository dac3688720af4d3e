//! Users and groups of an image by its own `/etc/passwd` and `/etc/group`: the C library's lookups know only the node's.

/// Who a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: Option<String>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
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

/// `user` is `name`, `uid`, or either with `:group`. `merge` adds the groups that list the user.
pub fn identify(user: &str, passwd_text: &str, group_text: &str, merge: bool) -> Result<Identity, UserError> {
    let (user, group) = user.split_once(':').map_or((user, None), |(u, g)| (u, Some(g)));
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let entry = passwd(passwd_text).find(|p| p.name == user || number == Some(p.uid));
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
        let found = groups(group_text)
            .find(|(name, _, _)| *name == group)
            .map(|(_, gid, _)| gid);
        identity.gid = found
            .or_else(|| group.parse().ok())
            .ok_or_else(|| UserError::Group(group.to_owned()))?;
    }
    if let (true, Some(p)) = (merge, &entry) {
        let lists = |members: &str| members.split(',').any(|m| m == p.name);
        identity.groups = groups(group_text)
            .filter(|(_, _, m)| lists(m))
            .map(|(_, gid, _)| gid)
            .collect();
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
}
