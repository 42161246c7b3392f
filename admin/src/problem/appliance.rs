//! What the box refuses, and what is wrong with an upload, in French and English.
//!
//! The box has a code for each reason; several reasons that call for the same act share a sentence,
//! and what the box itself said goes along as `cause`.

use std::net::IpAddr;

use axum::http::StatusCode;
use palabre_appliance::service::{Refusal, UploadId};

use super::Language;

/// Why the box, or an upload for it, was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplianceProblem {
    /// The program runs on somebody's own machine.
    NotAnAppliance,
    /// The box's own service does not answer.
    Silent,
    /// The box's own service said no.
    Refused(Refusal),
    /// The name that confirms an act is not the box's.
    NotConfirmed,
    /// The box has been told to restart.
    Restarting,
    /// Who confirms a network did not come to the address that is tried.
    NetworkNotReached(IpAddr),
    /// No upload of this id.
    UploadUnknown,
    /// Another upload is there.
    UploadPresent(UploadId),
    /// The upload has another length by now.
    UploadOffset,
    /// Another request writes to the upload.
    UploadBusy,
    /// Not all of it has come.
    UploadUnfinished,
    /// The upload would have more bytes than it may.
    UploadTooLarge {
        /// Most bytes accepted.
        most: u64,
    },
    /// The body is not declared as a piece of an upload.
    UploadKind,
    /// A header of the upload protocol is absent or unusable.
    UploadHeader(&'static str),
    /// A piece is not what its checksum says.
    UploadChecksum,
    /// The client speaks another version of the upload protocol.
    UploadVersion,
}

/// Title and detail.
type Sentences = (&'static str, &'static str);

impl ApplianceProblem {
    /// What the box says to who would change it during an installation.
    pub(crate) fn installing() -> Self {
        Self::Refused(Refusal {
            code: "installing".to_owned(),
            what: "an installation is running".to_owned(),
        })
    }

    /// Stable name, for programs. The box's own codes are written like all others of this API.
    pub(super) fn code(&self) -> String {
        let code = match self {
            Self::NotAnAppliance => "not_an_appliance",
            Self::Silent => "appliance_silent",
            Self::Refused(refusal) => return code(refusal),
            Self::NotConfirmed => "not_confirmed",
            Self::Restarting => "restarting",
            Self::NetworkNotReached(_) => "network_not_reached",
            Self::UploadUnknown => "upload_unknown",
            Self::UploadPresent(_) => "upload_present",
            Self::UploadOffset => "upload_offset",
            Self::UploadBusy => "upload_busy",
            Self::UploadUnfinished => "upload_unfinished",
            Self::UploadTooLarge { .. } => "upload_too_large",
            Self::UploadKind => "upload_kind",
            Self::UploadHeader(_) => "upload_header",
            Self::UploadChecksum => "upload_checksum",
            Self::UploadVersion => "upload_version",
        };
        code.to_owned()
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NotAnAppliance | Self::UploadUnknown => StatusCode::NOT_FOUND,
            Self::Silent => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused(refusal) => match refusal.code.as_str() {
                "upload-unknown" => StatusCode::NOT_FOUND,
                "system" | "forbidden" | "bug" => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::CONFLICT,
            },
            Self::NotConfirmed => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Restarting
            | Self::NetworkNotReached(_)
            | Self::UploadPresent(_)
            | Self::UploadOffset
            | Self::UploadUnfinished => StatusCode::CONFLICT,
            Self::UploadBusy => StatusCode::LOCKED,
            Self::UploadTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UploadKind => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::UploadHeader(_) => StatusCode::BAD_REQUEST,
            // tus 1.0.0, extension `checksum`.
            Self::UploadChecksum => StatusCode::from_u16(460).expect("three digits"),
            Self::UploadVersion => StatusCode::PRECONDITION_FAILED,
        }
    }

    /// What a machine or a person that asks further may want: what the box said, which header.
    pub(super) fn cause(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) => Some(refusal.what.clone()),
            Self::NetworkNotReached(address) => Some(address.to_string()),
            Self::UploadHeader(name) => Some((*name).to_owned()),
            Self::UploadPresent(id) => Some(id.to_string()),
            Self::UploadTooLarge { most } => Some(format!("at most {most} bytes")),
            _ => None,
        }
    }

    pub(super) fn sentences(&self, language: Language) -> Sentences {
        match (self, language) {
            (Self::Refused(refusal), _) => refused(&refusal.code, language),
            (_, Language::English) => self.english(),
            (_, Language::French) => self.french(),
        }
    }

    fn english(&self) -> Sentences {
        match self {
            Self::NotAnAppliance => (
                "Not an appliance",
                "Palabre runs on a machine of your own here: update and restart it as you do that machine.",
            ),
            Self::Silent | Self::Refused(_) => (
                "The box does not answer",
                "The part of the box that does this does not answer. Try again in a minute; if it stays so, restart the box.",
            ),
            Self::NotConfirmed => (
                "Not confirmed",
                "Nothing was done: the name typed to confirm is not the name of this box.",
            ),
            Self::Restarting => (
                "The box restarts already",
                "The restart has begun and cannot be called off any more. The box is back in a few minutes.",
            ),
            Self::NetworkNotReached(_) => (
                "Not at the new address",
                "Nothing was kept: this request did not come to the address that is tried. Open this page at that address, sign in there, and confirm.",
            ),
            Self::UploadUnknown => (
                "Unknown upload",
                "There is no upload of this id. It may have been given up, installed, or left alone for a day.",
            ),
            Self::UploadPresent(_) => (
                "Another upload is there",
                "The box keeps one upload at a time. Go on with the one that is there, or give it up first.",
            ),
            Self::UploadOffset => (
                "Another place in the file",
                "The upload has another length by now. Ask how much has come, and go on from there.",
            ),
            Self::UploadBusy => (
                "The upload is being written",
                "Another request is writing to the upload. Try again in a few seconds.",
            ),
            Self::UploadUnfinished => (
                "The upload is not complete",
                "Not all of the file has come. Go on with the upload, then install it.",
            ),
            Self::UploadTooLarge { .. } => (
                "The file is too large",
                "The file is larger than any update of this box, or than was announced. Check that it is the right one.",
            ),
            Self::UploadKind => (
                "Not a piece of an upload",
                "Send the piece as application/offset+octet-stream.",
            ),
            Self::UploadHeader(_) => (
                "A header is absent or unusable",
                "The upload protocol needs a header that is absent or cannot be used; \"cause\" names it.",
            ),
            Self::UploadChecksum => (
                "The piece was changed on its way",
                "The piece is not what its checksum says, and was not kept. Send it again.",
            ),
            Self::UploadVersion => (
                "Another version of the upload protocol",
                "Uploads speak tus 1.0.0: send the header Tus-Resumable: 1.0.0.",
            ),
        }
    }

    fn french(&self) -> Sentences {
        match self {
            Self::NotAnAppliance => (
                "Ce n'est pas un boîtier",
                "Palabre fonctionne ici sur votre propre machine : mettez-la à jour et redémarrez-la comme telle.",
            ),
            Self::Silent | Self::Refused(_) => (
                "Le boîtier ne répond pas",
                "La partie du boîtier qui s'en charge ne répond pas. Réessayez dans une minute ; si cela dure, redémarrez le boîtier.",
            ),
            Self::NotConfirmed => (
                "Pas de confirmation",
                "Rien n'a été fait : le nom saisi pour confirmer n'est pas celui de ce boîtier.",
            ),
            Self::Restarting => (
                "Le boîtier redémarre déjà",
                "Le redémarrage a commencé et ne peut plus être annulé. Le boîtier sera de retour dans quelques minutes.",
            ),
            Self::NetworkNotReached(_) => (
                "Pas à la nouvelle adresse",
                "Rien n'a été gardé : cette demande n'est pas arrivée à l'adresse à l'essai. Ouvrez cette page à cette adresse, connectez-vous, puis confirmez.",
            ),
            Self::UploadUnknown => (
                "Envoi inconnu",
                "Aucun envoi n'a cet identifiant. Il a peut-être été abandonné, installé, ou laissé de côté pendant un jour.",
            ),
            Self::UploadPresent(_) => (
                "Un autre envoi est là",
                "Le boîtier garde un seul envoi à la fois. Poursuivez celui qui est là, ou abandonnez-le d'abord.",
            ),
            Self::UploadOffset => (
                "Un autre endroit du fichier",
                "L'envoi a maintenant une autre longueur. Demandez combien est arrivé, et reprenez à cet endroit.",
            ),
            Self::UploadBusy => (
                "L'envoi est en cours d'écriture",
                "Une autre requête écrit dans cet envoi. Réessayez dans quelques secondes.",
            ),
            Self::UploadUnfinished => (
                "L'envoi n'est pas complet",
                "Le fichier n'est pas arrivé en entier. Poursuivez l'envoi, puis installez-le.",
            ),
            Self::UploadTooLarge { .. } => (
                "Le fichier est trop grand",
                "Le fichier est plus grand que toute mise à jour de ce boîtier, ou qu'annoncé. Vérifiez que c'est le bon.",
            ),
            Self::UploadKind => (
                "Ce n'est pas un morceau d'envoi",
                "Envoyez le morceau comme application/offset+octet-stream.",
            ),
            Self::UploadHeader(_) => (
                "Un en-tête manque ou n'est pas utilisable",
                "Le protocole d'envoi demande un en-tête qui manque ou n'est pas utilisable ; « cause » le nomme.",
            ),
            Self::UploadChecksum => (
                "Le morceau a été modifié en route",
                "Le morceau ne correspond pas à sa somme de contrôle et n'a pas été gardé. Envoyez-le de nouveau.",
            ),
            Self::UploadVersion => (
                "Une autre version du protocole d'envoi",
                "Les envois suivent tus 1.0.0 : ajoutez l'en-tête Tus-Resumable: 1.0.0.",
            ),
        }
    }
}

/// The code of a refusal as this API writes codes.
pub(crate) fn code(refusal: &Refusal) -> String {
    refusal.code.replace('-', "_")
}

/// Title and detail of what the box refused, by its code.
pub(crate) fn refused(code: &str, language: Language) -> Sentences {
    let (english, french): (Sentences, Sentences) = match code {
        "not-a-bundle" | "bundle-format" => (
            (
                "Not an update",
                "This file is not an update of Palabre that this box can read. Nothing was changed.",
            ),
            (
                "Ce n'est pas une mise à jour",
                "Ce fichier n'est pas une mise à jour de Palabre que ce boîtier sait lire. Rien n'a été modifié.",
            ),
        ),
        "bundle-truncated" | "bundle-trailing" | "bundle-unreadable" | "part-hash" => (
            (
                "The update is damaged",
                "The file is incomplete or was changed on its way. Nothing was installed: fetch the file again.",
            ),
            (
                "La mise à jour est abîmée",
                "Le fichier est incomplet ou a été modifié en route. Rien n'a été installé : téléchargez-le de nouveau.",
            ),
        ),
        "bundle-signature" => (
            (
                "The signature is not known",
                "The update is not signed by a key that this box trusts, or was changed. Nothing was installed.",
            ),
            (
                "La signature est inconnue",
                "La mise à jour n'est pas signée par une clé que ce boîtier accepte, ou a été modifiée. Rien n'a été installé.",
            ),
        ),
        "secure-boot" => (
            (
                "Secure Boot would not start it",
                "The firmware of this machine trusts nobody who signed this update, and would not start it. Nothing was installed.",
            ),
            (
                "Le démarrage sécurisé la refuserait",
                "Le micrologiciel de cette machine ne fait confiance à aucun signataire de cette mise à jour. Rien n'a été installé.",
            ),
        ),
        "manifest-length" | "manifest-invalid" | "part-unknown" | "part-duplicate"
        | "part-order" | "part-size" | "part-too-large" => (
            (
                "The update does not fit this box",
                "The update is not made as this box needs it. Nothing was installed.",
            ),
            (
                "La mise à jour ne convient pas à ce boîtier",
                "La mise à jour n'est pas faite comme il le faut pour ce boîtier. Rien n'a été installé.",
            ),
        ),
        "other-product" | "other-arch" | "other-flavour" => (
            (
                "The update is for another kind of box",
                "The update is for another machine or another flavour. Fetch the one for this box.",
            ),
            (
                "La mise à jour est pour un autre boîtier",
                "La mise à jour est pour une autre machine ou une autre variante. Téléchargez celle de ce boîtier.",
            ),
        ),
        "version-older" | "version-below-floor" => (
            (
                "The update is older",
                "The update is older than what this box accepts. To go back, start the previous version.",
            ),
            (
                "La mise à jour est plus ancienne",
                "La mise à jour est plus ancienne que ce que ce boîtier accepte. Pour revenir en arrière, démarrez la version précédente.",
            ),
        ),
        "version-failed" => (
            (
                "This version failed before",
                "This version failed on this box, and a stick does not bring it again. Bring a newer one, or install the file from this page to try it once more.",
            ),
            (
                "Cette version a déjà échoué",
                "Cette version a échoué sur ce boîtier, et une clé USB ne la ramène pas. Apportez-en une plus récente, ou installez le fichier depuis cette page pour l'essayer encore une fois.",
            ),
        ),
        "version-same" | "same-root" => (
            (
                "This version runs already",
                "The update is the version that runs. There is nothing to install.",
            ),
            (
                "Cette version fonctionne déjà",
                "La mise à jour est la version en service. Il n'y a rien à installer.",
            ),
        ),
        "running-on-trial" => (
            (
                "The version that runs is on trial",
                "The version that runs has yet to prove good, and the other slot is its way back. Wait some minutes.",
            ),
            (
                "La version en service est à l'essai",
                "La version en service doit encore faire ses preuves, et l'autre emplacement permet d'y revenir. Attendez quelques minutes.",
            ),
        ),
        "busy" | "installing" => (
            (
                "An installation is running",
                "The box is writing an update. Wait until it is done.",
            ),
            (
                "Une installation est en cours",
                "Le boîtier écrit une mise à jour. Attendez qu'elle soit terminée.",
            ),
        ),
        "support-busy" => (
            (
                "A support bundle is being made",
                "The box makes one support bundle at a time. Try again in a minute.",
            ),
            (
                "Un dossier d'assistance est en préparation",
                "Le boîtier prépare un seul dossier d'assistance à la fois. Réessayez dans une minute.",
            ),
        ),
        "no-previous" => (
            (
                "No other version",
                "There is no other version on this box that can start.",
            ),
            (
                "Aucune autre version",
                "Ce boîtier n'a pas d'autre version qui puisse démarrer.",
            ),
        ),
        "upload-unknown" => (
            (
                "Unknown upload",
                "The box does not find the uploaded file. Upload it again.",
            ),
            (
                "Envoi inconnu",
                "Le boîtier ne trouve pas le fichier envoyé. Envoyez-le de nouveau.",
            ),
        ),
        "stick-line" => (
            (
                "The settings are not understood",
                "A line of palabre.toml on the stick is not understood; the screen of the box names it. Nothing was changed.",
            ),
            (
                "Les réglages ne sont pas compris",
                "Une ligne de palabre.toml sur la clé USB n'est pas comprise ; l'écran du boîtier l'indique. Rien n'a été modifié.",
            ),
        ),
        "stick-network" | "stick-servers" => (
            (
                "The settings contradict themselves",
                "The network or the time servers in palabre.toml on the stick do not go together. Nothing was changed.",
            ),
            (
                "Les réglages se contredisent",
                "Le réseau ou les serveurs de temps de palabre.toml sur la clé USB ne vont pas ensemble. Rien n'a été modifié.",
            ),
        ),
        "stick-file" => (
            (
                "A file on the stick cannot be used",
                "A file on the stick is longer than 64 KiB, or is no text. Nothing was changed.",
            ),
            (
                "Un fichier de la clé n'est pas utilisable",
                "Un fichier de la clé USB dépasse 64 Kio, ou n'est pas du texte. Rien n'a été modifié.",
            ),
        ),
        "stick-certificate" => (
            (
                "The certificate cannot be used",
                "Certificate and key on the stick are not PEM text, or do not belong together. Nothing was changed.",
            ),
            (
                "Le certificat n'est pas utilisable",
                "Le certificat et la clé privée sur la clé USB ne sont pas du texte PEM, ou ne vont pas ensemble. Rien n'a été modifié.",
            ),
        ),
        "provision-io" => (
            (
                "The settings could not be taken",
                "A file that palabre.toml names is not on the stick, or the disk of the box could not be written.",
            ),
            (
                "Les réglages n'ont pas pu être repris",
                "Un fichier nommé dans palabre.toml n'est pas sur la clé USB, ou le disque du boîtier n'a pas pu être écrit.",
            ),
        ),
        "network-invalid" => (
            (
                "The network contradicts itself",
                "These settings do not go together: a fixed address excludes DHCP, and a gateway needs an address of its kind.",
            ),
            (
                "Le réseau se contredit",
                "Ces réglages ne vont pas ensemble : une adresse fixe exclut DHCP, et une passerelle demande une adresse du même genre.",
            ),
        ),
        "network-not-tried" => (
            (
                "No network is being tried",
                "The two minutes are over and the network before is back, or nothing was changed. Start again.",
            ),
            (
                "Aucun réseau n'est à l'essai",
                "Les deux minutes sont passées et le réseau précédent est revenu, ou rien n'a été modifié. Recommencez.",
            ),
        ),
        "time-invalid" => (
            ("Too many servers", "The box asks at most 8 time servers."),
            (
                "Trop de serveurs",
                "Le boîtier interroge 8 serveurs de temps au plus.",
            ),
        ),
        "certificate-chain" => (
            (
                "The certificate cannot be read",
                "The chain is not PEM text of 1 to 10 certificates, the box's own first.",
            ),
            (
                "Le certificat est illisible",
                "La chaîne n'est pas un texte PEM de 1 à 10 certificats, celui du boîtier en premier.",
            ),
        ),
        "certificate-key" => (
            (
                "The key cannot be read",
                "The key is not PEM text of a private key without a password: RSA, ECDSA or Ed25519.",
            ),
            (
                "La clé est illisible",
                "La clé n'est pas le texte PEM d'une clé privée sans mot de passe : RSA, ECDSA ou Ed25519.",
            ),
        ),
        "certificate-other-key" => (
            (
                "The key is another's",
                "The key does not belong to the first certificate of the chain. Check the files and their order.",
            ),
            (
                "La clé est celle d'un autre",
                "La clé ne va pas avec le premier certificat de la chaîne. Vérifiez les fichiers et leur ordre.",
            ),
        ),
        "certificate-ended" => (
            (
                "The certificate has ended",
                "The certificate is no longer valid. Ask for a new one, or check the clock of the box.",
            ),
            (
                "Le certificat est périmé",
                "Le certificat n'est plus valable. Demandez-en un nouveau, ou vérifiez l'heure du boîtier.",
            ),
        ),
        "certificate-no-name" => (
            (
                "The certificate names no host",
                "The certificate has no alternative names: no browser would accept it. Ask for one with the name of the box.",
            ),
            (
                "Le certificat ne nomme aucune machine",
                "Le certificat n'a pas de nom alternatif : aucun navigateur ne l'accepterait. Demandez-en un au nom du boîtier.",
            ),
        ),
        "firmware" => (
            (
                "The machine's firmware refuses",
                "The machine's firmware did not take the choice. Use the menu on the screen at the next start.",
            ),
            (
                "Le micrologiciel refuse",
                "Le micrologiciel de la machine n'a pas pris ce choix. Utilisez le menu à l'écran au prochain démarrage.",
            ),
        ),
        "disk" | "disk-table" | "disk-layout" | "disk-write" | "esp" | "esp-write"
        | "running-unknown" | "running-no-entry" => (
            (
                "The box's disk is not as it should be",
                "The box cannot read or write its own disk as it should. Download the support bundle and ask for help.",
            ),
            (
                "Le disque du boîtier n'est pas comme il devrait",
                "Le boîtier ne peut pas lire ou écrire son disque comme il le devrait. Téléchargez le dossier d'assistance et demandez de l'aide.",
            ),
        ),
        _ => (
            (
                "The box could not do it",
                "The box could not do what was asked; \"cause\" says why. Download the support bundle if you need help.",
            ),
            (
                "Le boîtier n'a pas pu le faire",
                "Le boîtier n'a pas pu faire ce qui était demandé ; « cause » dit pourquoi. Téléchargez le dossier d'assistance au besoin.",
            ),
        ),
    };
    match language {
        Language::English => english,
        Language::French => french,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_box_is_said_in_both_languages() {
        let other = |language| refused("never-heard-of", language);
        for code in [
            "not-a-bundle",
            "part-hash",
            "bundle-signature",
            "part-order",
            "other-arch",
            "version-older",
            "version-failed",
            "version-same",
            "running-on-trial",
            "busy",
            "no-previous",
            "support-busy",
            "stick-line",
            "stick-network",
            "stick-servers",
            "stick-file",
            "stick-certificate",
            "provision-io",
            "firmware",
            "disk-write",
        ] {
            for language in [Language::English, Language::French] {
                let told = refused(code, language);
                assert_ne!(told, other(language), "{code}");
                assert!(told.1.ends_with('.'), "{code}");
            }
            assert_ne!(
                refused(code, Language::English),
                refused(code, Language::French)
            );
        }
    }
}
