//! Header field names: long, compact, in any case (RFC 3261 §7.3.3, §20). Never looks at values.

macro_rules! names {
    ($($variant:ident $long:literal $compact:literal),+ $(,)?) => {
        /// A header field name the core or its shell reads; all others are [`Name::Other`] and kept verbatim.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Name { $($variant,)+ Other }

        impl Name {
            /// The long form; empty for [`Name::Other`].
            pub fn long(self) -> &'static str {
                match self { $(Name::$variant => $long,)+ Name::Other => "" }
            }

            /// Reads a name in either form and any case.
            pub fn of(name: &[u8]) -> Name {
                if let [letter] = name {
                    return match letter.to_ascii_lowercase() {
                        $(byte if $compact.first() == Some(&byte) => Name::$variant,)+
                        _ => Name::Other,
                    };
                }
                const LONGEST: usize = 24;
                let Some(first) = name.first() else { return Name::Other };
                if name.len() > LONGEST { return Name::Other }
                let first = first.to_ascii_lowercase();
                $(if name.len() == $long.len()
                    && first == $long.as_bytes()[0].to_ascii_lowercase()
                    && name.eq_ignore_ascii_case($long.as_bytes()) { return Name::$variant })+
                Name::Other
            }
        }

        #[cfg(test)]
        const ALL: &[(Name, &str, &[u8])] = &[$((Name::$variant, $long, $compact)),+];
    };
}

names! {
    Via "Via" b"v",
    From "From" b"f",
    To "To" b"t",
    CallId "Call-ID" b"i",
    CSeq "CSeq" b"",
    MaxForwards "Max-Forwards" b"",
    Contact "Contact" b"m",
    ContentType "Content-Type" b"c",
    ContentLength "Content-Length" b"l",
    ContentEncoding "Content-Encoding" b"e",
    ContentDisposition "Content-Disposition" b"",
    Route "Route" b"",
    RecordRoute "Record-Route" b"",
    Require "Require" b"",
    Supported "Supported" b"k",
    Unsupported "Unsupported" b"",
    Allow "Allow" b"",
    UserAgent "User-Agent" b"",
    Server "Server" b"",
    SessionExpires "Session-Expires" b"x",
    MinSe "Min-SE" b"",
    Expires "Expires" b"",
    Subject "Subject" b"s",
    Accept "Accept" b"",
    AcceptLanguage "Accept-Language" b"",
    AcceptEncoding "Accept-Encoding" b"",
    RetryAfter "Retry-After" b"",
    Warning "Warning" b"",
    Reason "Reason" b"",
    Date "Date" b"",
    Timestamp "Timestamp" b"",
    PAssertedIdentity "P-Asserted-Identity" b"",
    Privacy "Privacy" b"",
    Authorization "Authorization" b"",
    ProxyAuthorization "Proxy-Authorization" b"",
    WwwAuthenticate "WWW-Authenticate" b"",
    ProxyAuthenticate "Proxy-Authenticate" b"",
    ReferTo "Refer-To" b"r",
    Event "Event" b"o",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_and_case_is_read() {
        for (name, long, compact) in ALL {
            assert_eq!(Name::of(long.as_bytes()), *name);
            assert_eq!(Name::of(long.to_ascii_uppercase().as_bytes()), *name);
            assert_eq!(Name::of(long.to_ascii_lowercase().as_bytes()), *name);
            assert_eq!(name.long(), *long);
            if !compact.is_empty() {
                assert_eq!(Name::of(compact), *name);
                assert_eq!(Name::of(&compact.to_ascii_uppercase()), *name);
            }
        }
        assert_eq!(Name::of(b"X-Unheard-Of"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
    }
}
