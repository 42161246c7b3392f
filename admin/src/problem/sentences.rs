//! What each refusal says, in each language: title and detail.

use super::{Language, Problem};

impl Problem {
    pub(super) fn english(&self) -> (&'static str, &'static str) {
        match self {
            Self::Unauthenticated => (
                "Sign in first",
                "This needs an administrator. Sign in, or send a valid bearer token.",
            ),
            Self::PasswordWrong { .. } => {
                ("Wrong password", "The password is not the administrator's.")
            }
            Self::ClaimCodeWrong { .. } => (
                "Wrong claim code",
                "The claim code is not the one this box printed at its last start.",
            ),
            Self::ClaimedAlready => (
                "Already set up",
                "This box has its administrator. Sign in with the password.",
            ),
            Self::NotClaimed => (
                "Not set up yet",
                "This box has no administrator yet. Enter the claim code it printed when it started.",
            ),
            Self::CrossOrigin => (
                "Request from another site",
                "The request came from a page of another site and was not carried out.",
            ),
            Self::Slowed { .. } => (
                "Too fast",
                "The last try was wrong; this one was not looked at.",
            ),
            Self::LockedOut { .. } => (
                "Too many wrong tries",
                "Too many wrong tries came from your connection; this one was not looked at.",
            ),
            Self::CodeMalformed => (
                "Not a room code",
                "A room code has nine digits and does not begin with 0: 123 456 789 is one.",
            ),
            Self::CodeUnknown { .. } => (
                "Unknown code",
                "No room has this code. Check the nine digits with the person who invited you.",
            ),
            Self::LinkUnknown { .. } => (
                "Unknown link",
                "This link opens no room. The room may have been deleted; ask for a new invitation.",
            ),
            Self::RoomUnknown => ("Unknown room", "There is no room of this id."),
            Self::RoomFull => (
                "Room full",
                "The room has all the participants it may have. Try again when somebody has left.",
            ),
            Self::TokenUnknown => ("Unknown token", "There is no token of this id."),
            Self::KeyUnknown => ("Unknown key", "There is no key of this id."),
            Self::BodyTooLarge { .. } => ("Request too long", ""),
            Self::NotJson => ("Not JSON", "Send the body as application/json."),
            Self::BodyInvalid { .. } => (
                "Body not understood",
                "The body is not the JSON expected here; \"cause\" says where.",
            ),
            Self::FieldInvalid { .. } => ("Value not usable", ""),
            Self::Unavailable => (
                "Not available now",
                "The server cannot answer this at the moment. Try again in a few seconds.",
            ),
            Self::StorageFull => (
                "Disk full",
                "Nothing can be saved: the disk has no space left. Delete what is no longer needed; meetings go on.",
            ),
            Self::StorageReadOnly => (
                "Disk protected",
                "Nothing can be saved: the disk takes no writes. Start the box anew, which repairs it; meetings go on until then.",
            ),
            Self::Appliance(problem) => problem.sentences(Language::English),
            Self::PathUnknown => ("Nothing here", "There is nothing at this address."),
            Self::MethodUnknown => (
                "Method not known here",
                "This address does not have this method.",
            ),
        }
    }

    pub(super) fn french(&self) -> (&'static str, &'static str) {
        match self {
            Self::Unauthenticated => (
                "Connexion nécessaire",
                "Il faut être administrateur. Connectez-vous, ou envoyez un jeton valable.",
            ),
            Self::PasswordWrong { .. } => (
                "Mot de passe incorrect",
                "Ce mot de passe n'est pas celui de l'administrateur.",
            ),
            Self::ClaimCodeWrong { .. } => (
                "Code d'installation incorrect",
                "Ce code n'est pas celui que le boîtier a affiché à son dernier démarrage.",
            ),
            Self::ClaimedAlready => (
                "Déjà installé",
                "Ce boîtier a son administrateur. Connectez-vous avec le mot de passe.",
            ),
            Self::NotClaimed => (
                "Pas encore installé",
                "Ce boîtier n'a pas encore d'administrateur. Saisissez le code affiché à son démarrage.",
            ),
            Self::CrossOrigin => (
                "Requête d'un autre site",
                "La requête vient d'une page d'un autre site ; elle n'a pas été exécutée.",
            ),
            Self::Slowed { .. } => (
                "Trop rapide",
                "L'essai précédent était faux ; celui-ci n'a pas été examiné.",
            ),
            Self::LockedOut { .. } => (
                "Trop d'essais faux",
                "Trop d'essais faux sont venus de votre connexion ; celui-ci n'a pas été examiné.",
            ),
            Self::CodeMalformed => (
                "Ce n'est pas un code de salle",
                "Un code de salle compte neuf chiffres et ne commence pas par 0 : 123 456 789, par exemple.",
            ),
            Self::CodeUnknown { .. } => (
                "Code inconnu",
                "Aucune salle n'a ce code. Vérifiez les neuf chiffres avec la personne qui vous invite.",
            ),
            Self::LinkUnknown { .. } => (
                "Lien inconnu",
                "Ce lien n'ouvre aucune salle. Elle a peut-être été supprimée ; demandez une nouvelle invitation.",
            ),
            Self::RoomUnknown => ("Salle inconnue", "Aucune salle n'a cet identifiant."),
            Self::RoomFull => (
                "Salle complète",
                "La salle a tous les participants qu'elle peut avoir. Réessayez quand quelqu'un sera parti.",
            ),
            Self::TokenUnknown => ("Jeton inconnu", "Aucun jeton n'a cet identifiant."),
            Self::KeyUnknown => ("Clé inconnue", "Aucune clé n'a cet identifiant."),
            Self::BodyTooLarge { .. } => ("Requête trop longue", ""),
            Self::NotJson => ("Pas du JSON", "Envoyez le corps en application/json."),
            Self::BodyInvalid { .. } => (
                "Corps non compris",
                "Le corps n'est pas le JSON attendu ici ; « cause » dit où.",
            ),
            Self::FieldInvalid { .. } => ("Valeur inutilisable", ""),
            Self::Unavailable => (
                "Indisponible pour l'instant",
                "Le serveur ne peut pas répondre pour le moment. Réessayez dans quelques secondes.",
            ),
            Self::StorageFull => (
                "Disque plein",
                "Rien ne peut être enregistré : le disque est plein. Supprimez ce qui ne sert plus ; les réunions continuent.",
            ),
            Self::StorageReadOnly => (
                "Disque protégé",
                "Rien ne peut être enregistré : le disque n'accepte plus d'écriture. Redémarrez le boîtier, ce qui le répare ; les réunions continuent d'ici là.",
            ),
            Self::Appliance(problem) => problem.sentences(Language::French),
            Self::PathUnknown => ("Rien ici", "Il n'y a rien à cette adresse."),
            Self::MethodUnknown => (
                "Méthode inconnue ici",
                "Cette adresse ne connaît pas cette méthode.",
            ),
        }
    }
}
