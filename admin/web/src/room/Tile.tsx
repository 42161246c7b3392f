import { ConnectionQuality, type Participant, Track } from 'livekit-client';
import { useEffect, useRef } from 'react';
import { useTranslation } from 'react-i18next';
import { MicrophoneOffIcon, PhoneIcon, WarningIcon } from '../kit/icons';
import { isPhone, shownName } from './name';

function initials(name: string): string {
  const words = name.split(/\s+/).filter((word) => /\p{L}/u.test(word));
  return words.slice(0, 2).map((word) => word[0]!.toUpperCase()).join('');
}

export function Tile({ participant }: { participant: Participant }) {
  const { t } = useTranslation();
  const video = useRef<HTMLVideoElement>(null);
  const camera = participant.getTrackPublication(Track.Source.Camera);
  const picture = camera && !camera.isMuted ? camera.videoTrack : undefined;
  const sound = participant.getTrackPublication(Track.Source.Microphone);
  const isMuted = !sound || sound.isMuted;
  const phone = isPhone(participant);
  useEffect(() => {
    const element = video.current;
    if (!picture || !element) return undefined;
    picture.attach(element);
    return () => { picture.detach(element); };
  }, [picture]);
  const name = shownName(participant, t);
  const weak = participant.connectionQuality === ConnectionQuality.Poor || participant.connectionQuality === ConnectionQuality.Lost;
  return (
    <li className={participant.isSpeaking ? 'tile speaking' : 'tile'} data-identity={participant.identity}>
      {picture
        ? <video ref={video} muted playsInline className={participant.isLocal ? 'mirror' : ''} aria-label={name} />
        : <div className="portrait" aria-hidden="true">{phone ? <PhoneIcon /> : initials(name)}</div>}
      <p className="tile-name">
        {isMuted && <span className="tile-muted"><MicrophoneOffIcon /><span className="unseen">{t('room.muted')}</span></span>}
        {phone && <span className="tile-phone"><PhoneIcon /><span className="unseen">{t('room.byPhone')}</span></span>}
        <span>{participant.isLocal ? t('room.you', { name }) : name}</span>
        {participant.isSpeaking && <span className="unseen">{t('room.speaking')}</span>}
        {weak && (
          <span className="tile-weak" title={t(`room.quality.${participant.connectionQuality}`)}>
            <WarningIcon /><span className="unseen">{t(`room.quality.${participant.connectionQuality}`)}</span>
          </span>
        )}
      </p>
    </li>
  );
}

/** Plays what a participant says; kept apart from the tile so that paging never silences anyone. */
export function Voice({ participant }: { participant: Participant }) {
  const element = useRef<HTMLAudioElement>(null);
  const track = participant.getTrackPublication(Track.Source.Microphone)?.audioTrack;
  useEffect(() => {
    const audio = element.current;
    if (!track || !audio) return undefined;
    track.attach(audio);
    return () => { track.detach(audio); };
  }, [track]);
  return <audio ref={element} autoPlay />;
}
