//! parse∘print is the identity on messages of any content.

use proptest::prelude::*;

use super::super::Message;
use super::super::compose::Draft;
use super::super::header::{Address, CSeq, Params, Via, quote, unquote};
use super::super::uri::{Uri, escape_user};
use super::super::verdict::essentials;

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9.!%*_+`'~-]{1,16}"
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[!-~]([ -~]{0,60}[!-~])?",
        "[à-öα-ω☎-♥]{1,12}",
        Just(String::new())
    ]
}

proptest! {
    #[test]
    fn any_message_survives_printing(
        method in token(), status in 100u16..700, request in any::<bool>(), reason in value(),
        user in "[a-z0-9]{1,12}", fields in prop::collection::vec((token(), value()), 0..30), body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut draft = if request {
            Draft::request(&method, &format!("sip:{user}@example.com"))
        } else {
            Draft::response(status, &reason)
        };
        for (name, value) in &fields {
            // Names of our own choice only: Content-Length and -Type are written by finish().
            draft.line(&format!("X-{name}"), value);
        }
        let bytes = draft.finish((!body.is_empty()).then_some(("x/y", &body[..])));
        let message = Message::parse(bytes).unwrap();
        prop_assert_eq!(message.fault(), None);
        prop_assert_eq!(message.body(), &body[..]);
        for ((name, value), (_, read_name, read)) in fields.iter().zip(message.fields()) {
            prop_assert_eq!(&format!("X-{name}"), read_name);
            prop_assert_eq!(value, read);
        }
        let again = Message::parse(message.print()).unwrap();
        prop_assert_eq!(&again, &message);
        prop_assert_eq!(again.print(), message.print());
    }

    #[test]
    fn line_breaks_never_leave_a_value(value in "[ -~\r\n]{0,60}") {
        let mut draft = Draft::request("OPTIONS", "sip:a@b");
        draft.line("Subject", &value);
        let message = Message::parse(draft.finish(None)).unwrap();
        prop_assert_eq!(message.fields().count(), 2);
        prop_assert_eq!(message.fault(), None);
    }

    #[test]
    fn addresses_keep_their_parts(name in "[ -~é]{0,20}", user in "[ -~é]{1,20}", tag in token()) {
        let text = format!("{} <sip:{}@[2001:db8::1]:5070;lr>;tag={tag}", quote(&name), escape_user(&user));
        let address = Address::parse(&text).unwrap();
        prop_assert_eq!(unquote(address.name.unwrap()), name);
        prop_assert_eq!(address.tag(), Some(&*tag));
        prop_assert_eq!(Uri::parse(address.uri).unwrap().user_text(), user);
    }

    #[test]
    fn values_of_any_text_do_not_panic(text in ".{0,80}") {
        let _ = (Address::parse(&text), Via::parse(&text), CSeq::parse(&text), Uri::parse(&text), Params::parse(&text));
        let _ = super::super::header::list(&text).count();
        let mut draft = Draft::request("INVITE", "sip:a@b");
        draft.line("Via", &text).line("From", &text).line("To", &text).line("Call-ID", &text).line("CSeq", &text);
        if let Ok(message) = Message::parse(draft.finish(None)) {
            let _ = essentials(&message);
        }
    }
}
