import { FieldError, Input, Label, Text, TextField, type TextFieldProps } from 'react-aria-components';

type Props = TextFieldProps & {
  label: string;
  help?: string;
  error?: string | null;
  mono?: boolean;
  placeholder?: string;
};

/** One labelled field with its help and its error, tied together for screen readers. */
export function Field({ label, help, error, mono, placeholder, ...rest }: Props) {
  return (
    <TextField {...rest} isInvalid={Boolean(error)} validationBehavior="aria" className="field">
      <Label>{label}</Label>
      {help && <Text slot="description">{help}</Text>}
      <Input className={mono ? 'mono' : undefined} placeholder={placeholder} />
      <FieldError>{error}</FieldError>
    </TextField>
  );
}
