import { useState } from 'react';
import { Button, Dialog, DialogTrigger, Heading, Modal, ModalOverlay } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { Field } from './Field';

interface Props {
  /** On the button that opens it, and as its title. */
  label: string;
  /** What will happen. */
  text: string;
  /** On the button that does it. */
  yes: string;
  onYes: () => void;
  /** What must be typed first. */
  typed?: { label: string; word: string };
  className?: string;
  isDisabled?: boolean;
}

/** A button that asks again before it does what cannot be undone. */
export function Confirm({ label, text, yes, onYes, typed, className = 'button', isDisabled }: Props) {
  const { t } = useTranslation();
  const [word, setWord] = useState('');
  return (
    <DialogTrigger onOpenChange={() => setWord('')}>
      <Button className={className} isDisabled={isDisabled}>{label}</Button>
      <ModalOverlay className="overlay" isDismissable>
        <Modal className="modal">
          <Dialog role="alertdialog">
            {({ close }) => (
              <>
                <Heading slot="title">{label}</Heading>
                <p>{text}</p>
                {typed && <Field label={typed.label} name="confirm" autoComplete="off" value={word} onChange={setWord} autoFocus />}
                <div className="modal-acts">
                  <Button className="button" onPress={close}>{t('home.cancel')}</Button>
                  <Button className="button danger" isDisabled={typed !== undefined && word.trim() !== typed.word} onPress={() => { close(); onYes(); }}>{yes}</Button>
                </div>
              </>
            )}
          </Dialog>
        </Modal>
      </ModalOverlay>
    </DialogTrigger>
  );
}
