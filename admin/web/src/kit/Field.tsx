import { useState } from 'react';
import { FieldError, Input, Label, Text, TextField, type TextFieldProps, ToggleButton } from 'react-aria-components';
import { useTranslation } from 'react-i18next';

type Props = TextFieldProps & {
  label: string;
  help?: string;
  error?: string | null;
  mono?: boolean;
  placeholder?: string;
};

/** One labelled field with its help and its error, tied together for screen readers. */
export function Field({ label, help, error, mono, placeholder, type, ...rest }: Props) {
  const { t } = useTranslation();
  const [shown, setShown] = useState(false);
  const isSecret = type === 'password';
  return (
    <TextField {...rest} type={isSecret && shown ? 'text' : type} isInvalid={Boolean(error)} validationBehavior="aria" className="field">
      <Label>{label}</Label>
      {help && <Text slot="description">{help}</Text>}
      <Input className={mono ? 'mono' : undefined} placeholder={placeholder} spellCheck={isSecret ? false : undefined} autoCapitalize={isSecret ? 'none' : undefined} />
      {isSecret && <ToggleButton className="show" aria-label={`${t('show')} (${label})`} isSelected={shown} onChange={setShown}>{t('show')}</ToggleButton>}
      <FieldError>{error}</FieldError>
    </TextField>
  );
}
