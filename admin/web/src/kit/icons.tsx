// Line icons, 24 px grid; decorative: the control that holds one carries the name.
import type { ReactNode } from 'react';

function Icon({ children }: { children: ReactNode }) {
  return (
    <svg className="icon" viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="2" strokeLinecap="round" strokeLinejoin="round" aria-hidden="true">
      {children}
    </svg>
  );
}

export const MicrophoneIcon = () => (
  <Icon><rect x="9" y="3" width="6" height="11" rx="3" /><path d="M5 11a7 7 0 0 0 14 0M12 18v3" /></Icon>
);
export const MicrophoneOffIcon = () => (
  <Icon><path d="M9 9v2a3 3 0 0 0 5 2.2M15 10V6a3 3 0 0 0-5.6-1.5M5 11a7 7 0 0 0 11 5.7M19 11a7 7 0 0 1-.6 2.8M12 18v3M4 3l16 18" /></Icon>
);
export const CameraIcon = () => (
  <Icon><rect x="3" y="6" width="12" height="12" rx="2.5" /><path d="m15 11 6-3.5v9L15 13" /></Icon>
);
export const CameraOffIcon = () => (
  <Icon><path d="M9.5 6H12.5A2.5 2.5 0 0 1 15 8.5V11l6-3.5v9l-2.5-1.5M14.5 17.2c-.4.5-1.100.8-2 .8h-7A2.5 2.5 0 0 1 3 15.500v-7C3 7.300 3.800 6.400 4.900 6.100M3 3l18 18" /></Icon>
);
export const LeaveIcon = () => (
  <Icon><path d="M3 14.500c5-5 13-5 18 0l-2.200 2.300-3.800-1.500v-2.600a12 12 0 0 0-6 0v2.600l-3.800 1.500z" /></Icon>
);
export const PeopleIcon = () => (
  <Icon><circle cx="9" cy="8" r="3.500" /><path d="M2.500 20a6.500 6.500 0 0 1 13 0M16 4.800a3.500 3.500 0 0 1 0 6.400M18.500 14.500A6.500 6.500 0 0 1 21.500 20" /></Icon>
);
export const InviteIcon = () => (
  <Icon><path d="M10 14a4.500 4.500 0 0 0 6.400 0l3-3A4.500 4.500 0 0 0 13 4.600l-1 1M14 10a4.500 4.500 0 0 0-6.400 0l-3 3A4.500 4.500 0 0 0 11 19.400l1-1" /></Icon>
);
export const PhoneIcon = () => (
  <Icon><path d="M5 4h4l1.500 5-2.500 1.500a12 12 0 0 0 5.500 5.500L15 13.500l5 1.500v4a1.500 1.500 0 0 1-1.500 1.500A15.500 15.500 0 0 1 3.500 5.500 1.500 1.500 0 0 1 5 4z" /></Icon>
);
export const CloseIcon = () => <Icon><path d="m6 6 12 12M18 6 6 18" /></Icon>;
export const CopyIcon = () => (
  <Icon><rect x="9" y="9" width="11" height="11" rx="2" /><path d="M5 15a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1h9a1 1 0 0 1 1 1" /></Icon>
);
export const WarningIcon = () => <Icon><path d="M12 4 2.500 20h19zM12 10v4M12 17h0" /></Icon>;
export const CheckIcon = () => <Icon><path d="m5 12.500 4.500 4.500L19 7.500" /></Icon>;
