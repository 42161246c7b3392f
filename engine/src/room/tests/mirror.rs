//! What a client says of itself and only others need: it reaches them as it was said.

use super::*;

#[test]
fn what_a_client_can_is_told_to_the_others() {
    let mut world = World::new();
    let mut bob = world.seated("bob");
    bob.messages();
    let mut asked = request(grants("alice"));
    asked.client = proto::ClientInfo {
        client_protocol: 2,
        capabilities: vec![proto::client_info::Capability::CapPacketTrailer as i32],
        ..Default::default()
    };
    let alice = world.seated_with(asked.clone());
    let updates = bob
        .messages()
        .into_iter()
        .filter_map(|message| match message {
            Message::Update(update) => Some(update.participants),
            _ => None,
        });
    let told: Vec<_> = updates
        .flatten()
        .filter(|one| one.identity == "alice")
        .collect();
    let carol = world.seated("carol");
    let at_join = carol.join.expect("seated").other_participants;
    let at_join = at_join.into_iter().filter(|one| one.identity == "alice");
    let own = alice.join.and_then(|join| join.participant);
    assert!(!told.is_empty() && own.is_some());
    for info in told.into_iter().chain(at_join).chain(own) {
        assert_eq!(info.client_protocol, asked.client.client_protocol);
        assert_eq!(info.capabilities, asked.client.capabilities);
    }
}
