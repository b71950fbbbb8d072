package android.graphics;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import javax.imageio.ImageIO;

/** Fake: pixels that cannot be used after they were freed. */
public class Bitmap {
    public enum Config {
        ARGB_8888
    }

    public enum CompressFormat {
        JPEG
    }

    public static int made;
    private final int width;
    private final int height;
    private int[] pixels;

    private Bitmap(int width, int height) {
        this.width = width;
        this.height = height;
        pixels = new int[width * height];
    }

    public static Bitmap createBitmap(int width, int height, Config config) {
        made++;
        return new Bitmap(width, height);
    }

    public Bitmap copy(Config config, boolean mutable) {
        Bitmap copy = new Bitmap(width, height);
        copy.pixels = pixels.clone();
        return copy;
    }

    public final int getWidth() {
        return width;
    }

    public final int getHeight() {
        return height;
    }

    public void getPixels(int[] into, int offset, int stride, int x, int y, int width, int height) {
        System.arraycopy(pixels, 0, into, 0, pixels.length);
    }

    public void setPixels(int[] from, int offset, int stride, int x, int y, int width, int height) {
        System.arraycopy(from, 0, pixels, 0, pixels.length);
    }

    public void recycle() {
        pixels = null;
    }

    public boolean compress(CompressFormat format, int quality, OutputStream stream) {
        BufferedImage image = new BufferedImage(width, height, BufferedImage.TYPE_INT_RGB);
        image.setRGB(0, 0, width, height, pixels, 0, width);
        try {
            return ImageIO.write(image, "jpg", stream);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
