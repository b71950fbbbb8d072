package android.graphics;

import java.awt.image.BufferedImage;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.IOException;
import javax.imageio.ImageIO;

/** Fake: Java's own decoders; samples by leaving pixels out. */
public class BitmapFactory {
    public static class Options {
        public boolean inJustDecodeBounds;
        public Bitmap.Config inPreferredConfig;
        public int inSampleSize;
        public int outWidth = -1;
        public int outHeight = -1;
    }

    public static int largest; // pixels, of what was decoded

    public static Bitmap decodeFileDescriptor(FileDescriptor file, Rect padding, Options options) {
        BufferedImage image;
        try {
            image = ImageIO.read(new FileInputStream(file));
        } catch (IOException e) {
            return null;
        }
        if (image == null) return null;
        int step = Math.max(options.inSampleSize, 1);
        options.outWidth = image.getWidth() / step;
        options.outHeight = image.getHeight() / step;
        if (options.inJustDecodeBounds) return null;
        Bitmap bitmap = Bitmap.createBitmap(options.outWidth, options.outHeight, options.inPreferredConfig);
        int[] pixels = new int[options.outWidth * options.outHeight];
        for (int i = 0; i < pixels.length; i++) {
            pixels[i] = image.getRGB(i % options.outWidth * step, i / options.outWidth * step);
        }
        bitmap.setPixels(pixels, 0, options.outWidth, 0, 0, options.outWidth, options.outHeight);
        largest = Math.max(largest, pixels.length);
        return bitmap;
    }
}
